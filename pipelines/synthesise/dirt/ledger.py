"""The ledger: what was planted, and what preprocess must therefore count."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final

from pipelines.synthesise.config import CatalogueConfig
from pipelines.synthesise.dirt.kinds import KINDS
from pipelines.synthesise.dirt.site import Planted

LEDGER: Final = "_planted/ledger.json"


class Ledger:
    """Adds up what was planted.

    Attributes:
        read: rows that preprocess must read, as of the shop's last day.
        kept: rows of these that it must keep, before minimum counts and the cap on histories.
        counts: rows (files under "files") by what must become of them and by rule.
        kinds: by kind, what `Planted` says of it, and the names of its files.
    """

    def __init__(self, config: CatalogueConfig) -> None:
        """Begin with the shop's own rows."""
        self._as_of = config.last_day
        self._shop = config.interactions
        self.read = self.kept = config.interactions
        self.counts: dict[str, Counter[str]] = {
            fate: Counter() for fate in ("quarantined", "dropped", "files")
        }
        self.kinds: dict[str, dict[str, Any]] = {}

    def add(self, name: str, planted: Planted) -> None:
        """Take a kind that has files of its own."""
        kind = KINDS[name]
        if kind.fate != "kept":
            self.counts[kind.fate].update(planted.rules)
        if kind.of_rows:
            self.read += sum(planted.rules.values())
        self.read += planted.kept
        self.kept += planted.kept
        self.kinds[name] = {
            "fate": kind.fate,
            "rules": planted.rules,
            "kept": planted.kept,
            "files": [file for file, _ in planted.files],
            "examples": planted.examples,
        }

    def add_day(self, name: str, files: list[str], rows: int) -> None:
        """Take a day of the shop that drifts; its rows are among the shop's already."""
        if name not in self.kinds:
            self.add(name, Planted())
        entry = self.kinds[name]
        entry["kept"] += rows
        entry["files"] += files

    def to_json(self) -> bytes:
        """The ledger as a file, by kind in the order of `KINDS`."""
        content = {
            "as_of": self._as_of.isoformat(),
            "rows": {"shop": self._shop, "read": self.read, "kept": self.kept},
            **{fate: dict(sorted(counts.items())) for fate, counts in self.counts.items()},
            "kinds": {name: self.kinds[name] for name in KINDS if name in self.kinds},
        }
        return json.dumps(content, indent=1, ensure_ascii=False).encode()
