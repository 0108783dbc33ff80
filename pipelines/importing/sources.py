"""The files of a source: one file, or all below a folder, of this machine or of ``az://``."""

from __future__ import annotations

import contextlib
import gzip
import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import BinaryIO, Final, Literal, cast
from urllib.parse import urlsplit

from pipelines.errors import UsageError
from pipelines.storage import Container, Folder, Storage, is_visible, open_storage

Kind = Literal["parquet", "csv", "json"]

KINDS: Final[dict[str, Kind]] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".jsonl": "json",
    ".jsonl.gz": "json",
    ".ndjson": "json",
    ".ndjson.gz": "json",
    ".json": "json",
    ".json.gz": "json",
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceFile:
    """One file: where it lies, its name there, and what its suffix says it holds."""

    storage: Storage
    name: str
    kind: Kind

    @property
    def address(self) -> str:
        """What a person knows it by."""
        if isinstance(self.storage, Folder):
            return str(self.storage.root / self.name)
        return f"{self.storage.url}/{self.name}"

    @property
    def place(self) -> str:
        """Where it lies, spelt alike however the source was given."""
        if isinstance(self.storage, Folder):
            return (self.storage.root / self.name).resolve().as_uri()
        return self.address

    @contextlib.contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The file's bytes, unzipped; a file of this machine is streamed, a blob is held whole."""
        with self._stored() as stream:
            if self.name.lower().endswith(".gz"):
                with gzip.GzipFile(fileobj=stream) as unzipped:
                    yield cast(BinaryIO, unzipped)
            else:
                yield stream

    def _stored(self) -> BinaryIO:
        if isinstance(self.storage, Folder):
            return (self.storage.root / self.name).open("rb")
        return io.BytesIO(self.storage.read(self.name))


class Source:
    """A file or a folder that holds a retailer's rows."""

    def __init__(self, url: str) -> None:
        """List the files at `url`: a path, ``file://`` or ``az://``.

        Raises:
            UsageError: nothing is there, or nothing with a known suffix.
        """
        self.url = url
        self._storage, names = _listed(url)
        if not names:
            raise UsageError(f"There is no file at or below {url}: check the address.")
        kinds = {name: kind for name in names if (kind := _kind(name))}
        if not kinds:
            raise UsageError(
                f"{url} holds no file to import (found: {', '.join(names[:5])}): the name must end "
                f"with one of {', '.join(KINDS)}."
            )
        self._files = [SourceFile(self._storage, name, kind) for name, kind in kinds.items()]
        self._unknown = [name for name in names if name not in kinds]

    def files(self, patterns: Sequence[str], without: str | None) -> list[SourceFile]:
        """The files to import, by name.

        Args:
            patterns: of file names; the first that any file matches counts, so that a folder with
                a whole file and an extract of it is not imported twice. A source of one file is
                that file whatever its name.
            without: name of a file that holds something else, the catalogue.

        Raises:
            UsageError: there are several files and none matches.
        """
        if len(self._files) == 1:
            return self._files
        found = [file for file in self._files if file.name != without]
        for pattern in patterns:
            matching = [f for f in found if fnmatch(PurePosixPath(f.name).name, pattern)]
            if matching:
                others = [f.name for f in found if f not in matching] + self._unknown
                if others:
                    _log.warning("not imported from %s: %s", self.url, ", ".join(others))
                return matching
        raise UsageError(
            f"No file of {self.url} is named like {' or '.join(patterns)}, as `files` of the "
            f"mapping demands: it holds {', '.join(file.name for file in found[:5])}."
        )

    def beside(self, name: str) -> SourceFile | None:
        """The file of that name in the source's folder, when it is there."""
        kind = _kind(name)
        there = kind is not None and _has(self._storage, name)
        return SourceFile(self._storage, name, kind) if kind and there else None


def _listed(url: str) -> tuple[Storage, list[str]]:
    """The storage to read from and the names in it; of one file its folder and its name."""
    storage = open_storage(url)
    if isinstance(storage, Folder) and storage.root.is_file():
        return Folder(storage.root.parent), [storage.root.name]
    names = [blob.name for blob in storage.list() if is_visible(blob.name)]
    if not names and isinstance(storage, Container):
        folder, _, name = storage.url.rpartition("/")
        if urlsplit(folder).netloc and _has(parent := open_storage(folder), name):
            return parent, [name]
    return storage, names


def _has(storage: Storage, name: str) -> bool:
    if isinstance(storage, Folder):
        # Listing by prefix would walk every folder beside it.
        return (storage.root / name).is_file()
    return any(blob.name == name for blob in storage.list(name))


def _kind(name: str) -> Kind | None:
    return next((kind for end, kind in KINDS.items() if name.lower().endswith(end)), None)
