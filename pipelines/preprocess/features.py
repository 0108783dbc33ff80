"""The catalogue's column of vectors, one an item: checked before anything is computed, and kept."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hyperrec_core.features import FeaturesError, checked
from pipelines.errors import PipelineError, UsageError
from pipelines.preprocess.sink import to_parquet
from pipelines.preprocess.tables import ITEMS
from pipelines.runs import Attempt
from pipelines.storage import Blob, Storage

log = logging.getLogger(__name__)

FILE = "features.parquet"
"""Of a run, beside the vocabulary: `item` int32 and `features`, fixed_size_list<float32>, null for
an item without."""


def read_features(storage: Storage, listing: Sequence[Blob], column: str) -> pa.Table:
    """The vectors of a catalogue, one row an item: `item_id` and `features`.

    Args:
        storage: of the raw layout.
        listing: of the run; Parquet files of the catalogue that have the column count, and of
            several vectors of an item the one of the last file, by name.
        column: of the vectors.

    Raises:
        UsageError: no file has such a column.
        PipelineError: it does not hold a vector an item, all of one length.
    """
    parts, others, empty = [], set[str](), list[str]()
    for blob in sorted(listing, key=lambda blob: blob.name):
        if not (blob.name.startswith(f"{ITEMS.folder}/") and blob.name.endswith(".parquet")):
            continue
        try:
            file = pq.ParquetFile(io.BytesIO(storage.read(blob.name)))
            if column not in file.schema_arrow.names or "item_id" not in file.schema_arrow.names:
                others |= set(file.schema_arrow.names)
                continue
            table = file.read(columns=["item_id", column])
            if table[column].null_count == table.num_rows:
                empty.append(blob.name)
                continue
            table = table.set_column(0, "item_id", table["item_id"].cast(pa.string()))
            vectors = checked(table[column], table["item_id"])
        except pa.ArrowException:
            continue  # the catalogue's own reading tells of a file that is broken
        except FeaturesError as error:
            raise PipelineError(
                f"The column {column} of {blob.name} in {storage.url} cannot be features: {error}; "
                "mend the file, or unset preprocess.feature_column."
            ) from error
        parts.append((blob.name, pa.table({"item_id": table["item_id"], "features": vectors})))
    if empty and not parts:
        raise PipelineError(
            f"The column {column} of {', '.join(empty)} in {storage.url} cannot be features: no "
            "item has a vector in it; mend the file, or unset preprocess.feature_column."
        )
    if not parts:
        known = f"its columns are {', '.join(sorted(others))}" if others else "it has no catalogue"
        raise UsageError(
            f"No Parquet file of {ITEMS.folder}/ in {storage.url} has a column {column} beside "
            f"item_id ({known}): write one, as `hyperrec features` does of images, or unset "
            "preprocess.feature_column."
        )
    _require_alike(parts, column, storage.url)
    table = pa.concat_tables([part for _, part in parts]).drop_null()
    place = pa.array(range(table.num_rows), pa.int64())
    newest = table.append_column("place", place).group_by("item_id").aggregate([("place", "max")])
    return table.take(newest["place_max"])


def write_features(found: pa.Table, vocabulary: pa.Table, attempt: Attempt) -> dict[str, Any]:
    """Put the vectors of a vocabulary's items beside it.

    Args:
        found: of `read_features`.
        vocabulary: by item.
        attempt: where to.

    Returns:
        Metrics: how many items have a vector, and how many have none.
    """
    place = pc.index_in(vocabulary["item_id"], value_set=found["item_id"].combine_chunks())
    features = found["features"].combine_chunks().take(place.combine_chunks())
    table = pa.table({"item": vocabulary["item"], "features": features})
    attempt.write(FILE, to_parquet(table), rows=table.num_rows)
    missing = features.null_count
    if missing:
        log.warning(
            "%d of %d items have no features and count as the average item.", missing, len(features)
        )
    return {"items_with_features": len(features) - missing, "items_without_features": missing}


def _require_alike(parts: Sequence[tuple[str, pa.Table]], column: str, url: str) -> None:
    first, table = parts[0]
    size = table["features"].type.list_size
    for name, other in parts:
        if (own := other["features"].type.list_size) != size:
            raise PipelineError(
                f"The vectors {column} of {name} in {url} have {own} numbers and those of {first} "
                f"have {size}: encode all images by one encoder, or remove one of the files."
            )
