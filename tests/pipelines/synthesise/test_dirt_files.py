"""Files that cannot be used, and days whose files are of another kind, are what they are called."""

from __future__ import annotations

import csv
import gzip
import json
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.storage import Folder
from pipelines.synthesise.write import write_catalogue
from tests.pipelines.synthesise.shop import DRIFT, FILES, SHOP, Row, read


def test_files_that_cannot_be_used(dirty: Path, ledger: Row) -> None:
    def one(kind: str, rule: str) -> Path:
        entry = ledger["kinds"][kind]
        assert (entry["fate"], entry["rules"], entry["kept"]) == ("files", {rule: FILES}, 0)
        (name,) = entry["files"]
        return dirty / name

    assert one("empty_file", "file_empty").read_bytes() == b""
    for kind in ("parquet_truncated", "parquet_garbage"):
        with pytest.raises((pa.ArrowInvalid, OSError)):
            pq.read_table(one(kind, "file_unreadable"))
    # Its footer is whole: only reading the pages tells.
    assert pq.read_metadata(one("parquet_garbage", "file_unreadable")).num_rows == 200
    with pytest.raises(EOFError):
        gzip.decompress(one("gzip_truncated", "file_unreadable").read_bytes())
    with pytest.raises(UnicodeDecodeError):
        one("csv_not_utf8", "file_unreadable").read_text(encoding="utf-8")
    assert "item_id" not in pq.read_schema(one("without_column", "file_without_column")).names
    assert one("unknown_ending", "file_of_unknown_format").suffix == ".xlsx"


def test_several_bad_files_of_a_kind_differ(tmp_path: Path) -> None:
    dirt = dict.fromkeys(("empty_file", "without_column", "unknown_ending", "parquet_garbage"), 0.1)
    write_catalogue(SHOP, Folder(tmp_path), dirt=dirt)
    planted = json.loads((tmp_path / "_planted/ledger.json").read_text())
    assert planted["files"] == {
        "file_empty": 6,
        "file_of_unknown_format": 6,
        "file_unreadable": 6,
        "file_without_column": 6,
    }
    files = {kind: entry["files"] for kind, entry in planted["kinds"].items()}
    assert {Path(name).suffix for name in files["empty_file"]} == {".parquet", ".csv", ".jsonl"}
    for name in files["parquet_garbage"]:
        with pytest.raises((pa.ArrowInvalid, OSError)):
            pq.read_table(tmp_path / name)
    missing = set()
    for name in files["without_column"]:
        path = tmp_path / name
        names = (
            pq.read_schema(path).names
            if path.suffix == ".parquet"
            else next(csv.reader(path.open()))
        )
        missing |= {(path.suffix, *({"user_id", "item_id", "event_time"} - set(names)))}
    assert len(missing) == 6


@pytest.mark.parametrize("kind", DRIFT)
def test_a_day_that_drifts_holds_the_same_events(
    kind: str, dirty: Path, clean: Path, ledger: Row
) -> None:
    entry = ledger["kinds"][kind]
    assert (entry["fate"], entry["rules"]) == ("kept", {})
    day = next(name.split("/")[1] for name in entry["files"] if "/part-" in name)
    before = read(clean / "interactions" / day / "part-00000.parquet")
    after = [row for name in entry["files"] for row in read(dirty / name)]
    assert len(after) == len(before) == entry["kept"] > 0

    left_out = {"market"} if kind == "column_missing" else set()
    names = [name for name in before[0] if name not in left_out]

    def key(row: Row) -> str:
        time = row["event_time"].isoformat(timespec="microseconds")
        return repr([time if name == "event_time" else row[name] for name in names])

    assert sorted(map(key, after)) == sorted(map(key, before))
    assert {*after[0]} == {*names} | ({"campaign"} if kind == "column_added" else set())


def test_drift_is_what_its_name_says(dirty: Path, ledger: Row) -> None:
    def names(kind: str) -> list[str]:
        return [name.rpartition("/")[2] for name in ledger["kinds"][kind]["files"]]

    def types(kind: str) -> dict[str, pa.DataType]:
        schema = pq.read_schema(dirty / ledger["kinds"][kind]["files"][0])
        return dict(zip(schema.names, schema.types, strict=True))

    assert [names(kind) for kind in ("as_csv", "as_csv_gz", "as_json", "as_jsonl_gz")] == [
        [f"part-00000.{ending}"] for ending in ("csv", "csv.gz", "json", "jsonl.gz")
    ]
    assert types("times_in_nanoseconds")["event_time"] == pa.timestamp("ns", tz="UTC")
    assert types("texts_large")["user_id"] == pa.large_string()
    assert pa.types.is_dictionary(types("texts_as_dictionary")["item_id"])
    assert types("users_as_int64")["user_id"] == pa.int64()
    late = [name for name in ledger["kinds"]["late_events"]["files"] if "/late-" in name]
    (delivered,) = {date.fromisoformat(name.split("=")[1][:10]) for name in late}
    (happened,) = {row["event_time"].date() for name in late for row in read(dirty / name)}
    assert timedelta() < delivered - happened <= timedelta(days=3)
    assert delivered <= SHOP.last_day
