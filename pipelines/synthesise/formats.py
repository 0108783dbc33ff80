"""Tables as the bytes of a raw file; the same table gives the same bytes."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq


def parquet_bytes(table: pa.Table) -> bytes:
    """A Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table.combine_chunks(), sink, compression="zstd")
    return bytes(sink.getvalue())


def csv_bytes(table: pa.Table) -> bytes:
    """CSV with a header; a null is an empty field, a time is text as in 2024-06-30 12:00:00Z."""
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(_with_texts_for_times(table), sink)
    return bytes(sink.getvalue())


def json_lines(table: pa.Table) -> bytes:
    """One JSON object a row; a time is text as in 2024-06-30 12:00:00Z."""
    rows = _with_texts_for_times(table).to_pylist()
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def gzipped(data: bytes) -> bytes:
    """The bytes compressed, without the time of compression."""
    return gzip.compress(data, mtime=0)


def _with_texts_for_times(table: pa.Table) -> pa.Table:
    for position, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            texts = table.column(position).cast(pa.string())
            table = table.set_column(position, field.name, texts)
    return table
