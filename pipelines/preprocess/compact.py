"""Each day's raw files judged once: what a night reads of the days before it.

A day's files are reduced to the rows that go on, with the few columns the histories are made of,
the rows for quarantine, and the day's counts. What is kept is named by what it was made of, the
rules and the day's files with their ETags, so a file that comes late or again makes its day, and
no other, be read again; and a run over kept days equals one that reads everything anew. Each input
has a folder of its own, as what a day no longer needs is removed.

Layout below the storage of runs::

    compacted/<rules>/<input>/<day>/<files>/manifest.json     written last, by conditional put
    compacted/<rules>/<input>/<day>/<files>/<attempt>-...     rows, named by the manifest

Nothing here depends on a run's date: rows later than their day are kept whole, and judged by each
run (`ahead`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.errors import AlreadyExistsError, NotFoundError
from pipelines.preprocess.compact_rows import Counts, Kind, Part, judged_rows, write_days
from pipelines.preprocess.rules import QUARANTINE_RULES
from pipelines.preprocess.source import day_of, impossible_date, read_raw
from pipelines.preprocess.tables import INTERACTIONS
from pipelines.storage import Blob, Storage

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

FORMAT: Final = 1
_REQUESTS = 8  # at once, for the manifests of a year of days


class Day(BaseModel):
    """What one day's files hold.

    Attributes:
        day: YYYY-MM-DD, or `unknown`.
        parts: rows that go on, rows ahead of their day, and rows for quarantine.
        counts: of the rows read.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = FORMAT
    day: str
    parts: tuple[Part, ...]
    counts: Counts

    def of(self, kind: Kind) -> list[Part]:
        """The parts of one kind."""
        return [part for part in self.parts if part.kind == kind]


def compacted(
    spark: SparkSession,
    source_url: str,
    listing: Sequence[Blob],
    drop: Mapping[str, str],
    storage: Storage,
) -> list[Day]:
    """The days of a listing, those that are not kept yet read and kept first.

    Args:
        spark: the session.
        source_url: storage of the raw layout.
        listing: blobs of interactions and others, as of `source.raw_listing`.
        drop: the configuration's drop rules.
        storage: of runs.

    Returns:
        By day; parts are named relative to `storage`.
    """
    for text in sorted({each for blob in listing if (each := impossible_date(blob.name))}):
        log.warning(
            "%s/dt=%s is the folder of no day that there is: its rows count by their own times "
            "alone; deliver them in the folder of their day.",
            INTERACTIONS.folder,
            text,
        )
    rules = _digest([FORMAT, QUARANTINE_RULES, INTERACTIONS.columns, dict(drop)])
    place = f"compacted/{rules}/{_digest(source_url)}"
    wanted = {
        f"{place}/{day}/{_digest([[b.name, b.size, b.etag] for b in blobs])}": blobs
        for day, blobs in _by_day(listing).items()
    }
    kept = {
        blob.name.removesuffix("/manifest.json")
        for blob in storage.list(f"{place}/")
        if blob.name.endswith("/manifest.json")
    }
    with ThreadPoolExecutor(_REQUESTS) as requests:
        found = dict(
            zip(wanted, requests.map(lambda f: _read(storage, f, kept), wanted), strict=True)
        )
    missing = {folder: blobs for folder, blobs in wanted.items() if found[folder] is None}
    log.info("%d of %d days are kept from earlier runs.", len(wanted) - len(missing), len(wanted))
    if missing:
        found |= _compact(spark, source_url, missing, drop, storage)
    return [day for day in found.values() if day is not None]


def _by_day(listing: Iterable[Blob]) -> dict[str, list[Blob]]:
    days: dict[str, list[Blob]] = {}
    for blob in sorted(listing, key=lambda blob: blob.name):
        if blob.name.startswith(f"{INTERACTIONS.folder}/"):
            days.setdefault(day_of(blob.name) or "unknown", []).append(blob)
    return dict(sorted(days.items()))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _read(storage: Storage, folder: str, kept: set[str]) -> Day | None:
    if folder not in kept:
        return None
    try:
        return Day.model_validate_json(storage.read(f"{folder}/manifest.json"))
    except (NotFoundError, ValidationError):
        log.warning("%s in %s cannot be read; its day is read again.", folder, storage.url)
        return None


def _compact(
    spark: SparkSession,
    source_url: str,
    missing: Mapping[str, Sequence[Blob]],
    drop: Mapping[str, str],
    storage: Storage,
) -> dict[str, Day]:
    blobs = [blob for day in missing.values() for blob in day]
    folders = {folder.split("/")[-2]: folder for folder in missing}
    attempt = uuid.uuid4().hex[:12]
    judged = judged_rows(read_raw(spark, source_url, blobs, INTERACTIONS), drop)
    task = write_days(storage.url, folders, attempt)
    parts: dict[str, list[Part]] = {day: [] for day in folders}
    counts: dict[str, Counts] = {day: Counts(files=len(missing[f])) for day, f in folders.items()}
    for row in judged.mapInArrow(task, "day string, part string, counts string").collect():
        if row.part is not None:
            parts[row.day].append(Part.model_validate_json(row.part))
        counts[row.day] = counts[row.day].plus(Counts.model_validate_json(row.counts))
    days = {
        folder: Day(
            day=day,
            parts=tuple(sorted(parts[day], key=lambda part: part.name)),
            counts=counts[day],
        )
        for day, folder in folders.items()
    }
    with ThreadPoolExecutor(_REQUESTS) as requests:
        return dict(requests.map(lambda item: _keep(storage, *item), days.items()))


def _keep(storage: Storage, folder: str, day: Day) -> tuple[str, Day]:
    """Put a day's manifest, and remove what no manifest of this day names any more."""
    data = day.model_dump_json(indent=1).encode()
    with contextlib.suppress(AlreadyExistsError):
        storage.create(f"{folder}/manifest.json", data)
    winner = _read(storage, folder, {folder})
    if winner is None:
        storage.write(f"{folder}/manifest.json", data)
        winner = day
    named = {part.name for part in winner.parts} | {f"{folder}/manifest.json"}
    for blob in list(storage.list(f"{folder.rpartition('/')[0]}/")):
        if blob.name not in named:
            storage.delete(blob.name)
    return folder, winner
