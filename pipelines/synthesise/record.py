"""What a synthetic shop says of itself in its storage, so that it is made once and never mixed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from pipelines.errors import NotFoundError, UsageError
from pipelines.storage import Storage
from pipelines.synthesise.config import CatalogueConfig

RECORD: Final = "_synthetic/shop.json"

# Of what the generator writes for the same settings.
_VERSION: Final = 1

_FOLDERS: Final = ("interactions/", "items/", "_planted/")


class Record:
    """The record of one shop in one storage."""

    def __init__(
        self, target: Storage, config: CatalogueConfig, shares: Mapping[str, float]
    ) -> None:
        """Look at what is there.

        Args:
            target: the raw layout.
            config: the shop that is asked for.
            shares: of dirt by kind.

        Raises:
            UsageError: something else is there than this shop or the beginning of it.
        """
        self._target = target
        asked = asdict(config) | {"last_day": config.last_day.isoformat()}
        self._shop: dict[str, Any] = {"version": _VERSION, **asked, "dirt": dict(shares)}
        self._found = self._read()
        self._check_shop()
        if self._found is None:
            self._check_files({})
        elif self._found["files"] is not None:
            self._check_files(self._found["files"])

    def made(self) -> dict[str, int] | None:
        """The totals of the shop when it is whole and as it was written, else None."""
        if self._found is None or self._found["files"] != self._files():
            return None
        totals: dict[str, int] = self._found["totals"]
        return totals

    def begin(self) -> None:
        """Say whose the files are that are about to come."""
        self._write(None, None)

    def finish(self, sizes: Mapping[str, int], totals: Mapping[str, int]) -> None:
        """Say that the shop is whole.

        Args:
            sizes: bytes of its files, by name.
            totals: what `made` is to return from now on.

        Raises:
            UsageError: there are other files among them.
        """
        self._check_files(sizes)
        self._write(dict(sorted(sizes.items())), dict(totals))

    def _read(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self._target.read(RECORD))
        except NotFoundError:
            return None
        except ValueError:
            found = {}
        if not isinstance(found, dict) or found.keys() != {"shop", "files", "totals"}:
            raise UsageError(
                f"{RECORD} in {self._target.url} is not what this command wrote: give --to another "
                "address, or delete what is there."
            )
        return found

    def _write(self, files: dict[str, int] | None, totals: dict[str, int] | None) -> None:
        content = {"shop": self._shop, "files": files, "totals": totals}
        self._target.write(RECORD, json.dumps(content, indent=1).encode())

    def _files(self) -> dict[str, int]:
        return {blob.name: blob.size for folder in _FOLDERS for blob in self._target.list(folder)}

    def _check_shop(self) -> None:
        before = self._shop if self._found is None else self._found["shop"]
        if before != self._shop:
            differences = ", ".join(
                "other shares of dirt"
                if name == "dirt"
                else f"{name} {before.get(name)} and not {value}"
                for name, value in self._shop.items()
                if before.get(name) != value
            )
            raise UsageError(
                f"{self._target.url} holds a synthetic shop with {differences}: give --to another "
                "address, or delete what is there."
            )

    def _check_files(self, known: Mapping[str, int]) -> None:
        foreign = next((name for name in self._files() if name not in known), None)
        if foreign is not None:
            raise UsageError(
                f"{self._target.url} holds {foreign}, which this command did not write: give --to "
                "another address, or delete that."
            )
