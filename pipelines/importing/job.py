"""`import`: from a retailer's file to the raw blob layout, in one pass and bounded memory."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

import pyarrow.compute as pc

from pipelines import convert
from pipelines.errors import UsageError
from pipelines.importing.binding import Binding, bind_catalogue, bind_rows
from pipelines.importing.catalogue import Catalogue
from pipelines.importing.formats import batches
from pipelines.importing.mapping import Mapping, load_mapping, mapping_names
from pipelines.importing.parts import UNKNOWN, Parts
from pipelines.importing.rows import Rows
from pipelines.importing.sources import Source, SourceFile
from pipelines.storage import Storage

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        rows_read: rows of the source.
        rows_written: rows in the raw layout now, the undated ones too; equal to `rows_read`.
        rows_undated: rows without a usable time, in `interactions/dt=unknown/`.
        days: days with at least one row.
        first_day: the first of them; None when no row has a time.
        last_day: the last of them.
        items: items in the catalogue.
        files_written: blobs put because they were new or differed.
        files_unchanged: blobs left alone because they held the same bytes.
        rows_replaced: rows of earlier imports of the same files that are not in them now, and went.
        unread: by raw column, how many values were given and yet could not be read (now null); of
            `is_live` as well, without which an item counts as live.
    """

    rows_read: int
    rows_written: int
    rows_undated: int
    days: int
    first_day: date | None
    last_day: date | None
    items: int
    files_written: int
    files_unchanged: int
    rows_replaced: int = 0
    unread: dict[str, int] = field(default_factory=dict)


def import_source(
    source: str,
    mapping: Mapping,
    target: Storage,
    *,
    replace: bool = False,
    progress: Callable[[int], None] | None = None,
) -> ImportReport:
    """Rewrite a retailer's file or folder as the raw layout: a folder a day, and a catalogue.

    No row is judged or lost here: a value that cannot be read becomes null, a row without a usable
    time goes to `dt=unknown`, and the rules of preprocess count both. The same source gives the
    same blobs, and blobs that are there already stay untouched, so an interrupted import is
    finished by giving it again. Files of another place, a URL or path, add to what is there.

    Args:
        source: a file or folder: a path, ``file://`` or ``az://``; Parquet, CSV or JSON lines.
        mapping: which columns mean what.
        target: the raw layout.
        replace: whether a file that was imported from the same place before may take away rows,
            on the days that it touches, that it held then and does not hold now.
        progress: called with the number of rows just read, again and again.

    Raises:
        UsageError: the source is missing, unreadable or without rows, or lacks a column of the
            mapping; nothing has been written when a column is missing. Or a file no longer holds
            rows that were imported from its place, and `replace` is false; files before it, by
            name, are imported.
        StorageError: the target cannot be used.
    """
    files, catalogue_file = _files(source, mapping)
    bound = [
        (file, bind_rows(mapping, file, with_catalogue=mapping.catalogue.file is None))
        for file in files
    ]
    described = bind_catalogue(mapping, catalogue_file) if catalogue_file else None

    rows = Rows(mapping, times_from_order=_without_times(bound))
    catalogue = Catalogue()
    if catalogue_file and described:
        for batch in batches(catalogue_file, described.needed):
            item_id = batch.column(described.columns["item_id"])
            untyped = catalogue_file.kind == "csv"
            catalogue.add(convert.text(item_id, untyped=untyped), batch, described)

    read = 0
    by_day: Counter[str] = Counter()
    written = unchanged = replaced = 0
    for file, binding in bound:
        parts = Parts(target, file, replace=replace)
        for batch in batches(file, binding.needed):
            raw = rows.convert(batch, binding, untyped=file.kind == "csv")
            catalogue.add(raw["item_id"], batch, binding, raw["event_time"])
            parts.add(raw)
            read += len(batch)
            if progress:
                progress(len(batch))
        parts.finish()
        by_day += parts.rows
        written += parts.written
        unchanged += parts.unchanged
        replaced += parts.replaced

    if not read:
        raise UsageError(f"{source} holds no rows: give a file with interactions in it.")
    items, changed = catalogue.write(target)
    days = sorted(set(by_day) - {UNKNOWN})
    return ImportReport(
        rows_read=read,
        rows_written=by_day.total(),
        rows_undated=by_day[UNKNOWN],
        days=len(days),
        first_day=date.fromisoformat(days[0]) if days else None,
        last_day=date.fromisoformat(days[-1]) if days else None,
        items=items,
        files_written=written + changed,
        files_unchanged=unchanged + (not changed),
        rows_replaced=replaced,
        unread=dict(sorted((rows.unread + Counter(is_live=catalogue.unread)).items())),
    )


def _files(source: str, mapping: Mapping) -> tuple[list[SourceFile], SourceFile | None]:
    found = Source(source)
    name = mapping.catalogue.file
    files = found.files(mapping.files, without=name)
    if name is None:
        return files, None
    beside = found.beside(name)
    if beside is None and "catalogue" not in mapping.optional:
        raise UsageError(
            f"There is no {name} beside {source}, which the mapping names under [catalogue] file: "
            'put it there, or add "catalogue" to `optional`.'
        )
    return files, beside


def _without_times(bound: list[tuple[SourceFile, Binding]]) -> bool:
    """Whether an order has to stand in for times, because no row of the source has one."""
    if not any("order" in binding.columns for _, binding in bound):
        return False
    for file, binding in bound:
        if "event_time" in binding.columns:
            name = binding.columns["event_time"]
            if any(
                pc.any(convert.given(batch.column(name))).as_py() for batch in batches(file, [name])
            ):
                return False
    _log.warning(
        "no row of %s has a time: the order within a user becomes one day a step, from 2000-01-01",
        ", ".join(file.address for file, _ in bound),
    )
    return True


def fitting_mapping(source: str) -> str:
    """The name of the mapping of the package that makes most of a source's columns.

    Raises:
        UsageError: none fits; the message says what each of them misses.
    """
    fits: dict[str, int] = {}
    misses = []
    for name in mapping_names():
        mapping = load_mapping(name)
        try:
            files, _ = _files(source, mapping)
            bound = [
                bind_rows(mapping, f, with_catalogue=mapping.catalogue.file is None) for f in files
            ]
        except UsageError as error:
            misses.append(f"{name}: {error}")
        else:
            fits[name] = min(len(set(binding.needed)) for binding in bound)
    if not fits:
        raise UsageError(
            f"No mapping that comes with hyperrec fits {source}; write one like those in "
            f"pipelines/mappings and name its path. {' '.join(misses)}"
        )
    return max(fits, key=lambda name: fits[name])
