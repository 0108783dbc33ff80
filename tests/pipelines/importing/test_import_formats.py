"""The same rows from every format and place; what a person reads when a file is not usable."""

import csv
import gzip
import io
import json
import os
import uuid
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.local.published_keys import AZURITE_KEY
from infra.local.services import azurite_server
from pipelines.errors import UsageError
from pipelines.importing import formats as formats_module
from pipelines.importing import import_source, load_mapping
from pipelines.settings import BlobAccount, blob_account
from pipelines.storage import open_storage

ROWS = [
    {"user_id": "00123", "item_id": "a", "event_time": "2024-01-01T10:00:00Z", "quantity": 2},
    {"user_id": "5", "item_id": 'b, "c"\nd', "event_time": "2024-01-02T00:00:00Z", "quantity": 1},
    {"user_id": "ü", "item_id": "a", "event_time": "2024-01-01T23:59:59Z", "quantity": None},
]


def as_parquet(rows):
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def as_csv(rows, delimiter=",", start=""):
    sink = io.StringIO()
    sink.write(start)
    writer = csv.DictWriter(sink, rows[0], delimiter=delimiter, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue().encode()


def as_json(rows):
    # Absent instead of null, as many programs write it, and a blank line at the end.
    present = [{key: value for key, value in row.items() if value is not None} for row in rows]
    return "".join(json.dumps(row) + "\n" for row in present).encode() + b"\n"


FORMATS = {
    "o.parquet": as_parquet(ROWS),
    "o.csv": as_csv(ROWS),
    "semicolons.csv": as_csv(ROWS, ";", "\ufeff"),
    "o.csv.gz": gzip.compress(as_csv(ROWS)),
    "o.jsonl": as_json(ROWS),
    "o.ndjson.gz": gzip.compress(as_json(ROWS)),
    "UPPER.JSON": as_json(ROWS),
}


def imported(source, tmp_path, mapping="canonical"):
    target = open_storage(str(tmp_path / "raw"))
    report = import_source(str(source), load_mapping(mapping), target)
    return report, rows_of(target)


def rows_of(target):
    parts = [blob.name for blob in target.list("interactions/")]
    return [
        row for name in parts for row in pq.read_table(io.BytesIO(target.read(name))).to_pylist()
    ]


def expected():
    found = []
    for row in sorted(ROWS, key=lambda row: row["event_time"][:10]):
        time = datetime.fromisoformat(row["event_time"]).astimezone(UTC)
        found.append((row["user_id"], row["item_id"], time, row["quantity"]))
    return found


def essence(rows):
    return [(r["user_id"], r["item_id"], r["event_time"], r["quantity"]) for r in rows]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows(tmp_path, name):
    (tmp_path / name).write_bytes(FORMATS[name])
    report, rows = imported(tmp_path / name, tmp_path)
    assert essence(rows) == expected()
    assert (report.rows_read, report.days, report.items) == (3, 2, 2)
    assert report.unread == {}


def test_a_folder_of_several_formats_and_a_file_address(tmp_path):
    folder = tmp_path / "shop"
    for name in ("january/o.csv", "february/o.csv", "o.parquet", "_temporary/x.csv", ".x.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(
            FORMATS[name.rpartition("/")[2].replace("x", "o")]
            if name[0] not in "._"
            else b"someone's unfinished work"
        )
    (folder / "README.md").write_text("about")
    report, rows = imported(folder.as_uri(), tmp_path)
    assert report.rows_read == len(rows) == 9


def test_batches_smaller_than_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(formats_module, "BATCH_ROWS", 2)
    monkeypatch.setattr(formats_module, "CSV_BLOCK_BYTES", 128)
    for name in ("o.parquet", "o.csv.gz", "o.jsonl"):
        (tmp_path / name).write_bytes(FORMATS[name])
        calls = []
        target = open_storage(str(tmp_path / f"raw-{name}"))
        import_source(
            str(tmp_path / name), load_mapping("canonical"), target, progress=calls.append
        )
        assert essence(rows_of(target)) == expected()
        assert sum(calls) == 3
        assert len(calls) > 1


def test_json_of_mixed_types(tmp_path):
    rows = [
        {"user_id": 7, "item_id": "a", "event_time": 1704103200},
        {"user_id": "7", "item_id": 8.0, "event_time": "1704103200"},
        {"user_id": True, "item_id": None, "event_time": {"seconds": 1}, "quantity": "x"},
        {"user_id": "\ud800", "item_id": [1], "event_time": "2024-01-01T10:00:00Z"},
    ]
    (tmp_path / "o.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report, found = imported(tmp_path / "o.json", tmp_path)
    ten = datetime(2024, 1, 1, 10, tzinfo=UTC)
    # The column has a list in one row, so it is one of lists, which are no ids.
    assert [(r["user_id"], r["event_time"]) for r in found] == [
        ("7", ten), ("7", ten), ("?", ten), ("true", None),
    ]  # fmt: skip
    assert report.unread["quantity"] == report.unread["event_time"] == 1
    assert report.rows_undated == 1


GOOD_CSV = as_csv(ROWS)

UNUSABLE = {
    "missing.parquet": (None, r"There is no file at or below .*missing.parquet: check the address"),
    "orders.xlsx": (b"PK", r"holds no file to import \(found: orders.xlsx\).* must end with .*csv"),
    "noparquet.parquet": (b"PAR1 but no more", r"Cannot read .*noparquet.parquet as parquet"),
    "empty.parquet": (b"", r"Cannot read .*empty.parquet as parquet"),
    "truncated.parquet": (FORMATS["o.parquet"][:-50], r"Cannot read .* file is whole"),
    "empty.csv": (b"", r"first line, which should name the columns, is empty"),
    "header.csv": (GOOD_CSV.splitlines()[0] + b"\n", r"header.csv holds no rows"),
    "ragged.csv": (GOOD_CSV + b"only,two\r\n", r"Cannot read .*ragged.csv as csv: .*got 2"),
    "latin.csv": (GOOD_CSV + "\xa3,b,2024-01-01,1\r\n".encode("latin-1"), r"UTF-?8"),
    "latin1.csv": ("\xa3,b".encode("latin-1"), r"is not UTF-8 text; convert it"),
    "truncated.csv.gz": (FORMATS["o.csv.gz"][:-12], r"Cannot read .*truncated.csv.gz as csv"),
    "unzipped.csv.gz": (GOOD_CSV, r"Cannot read .*unzipped.csv.gz as csv: Not a gzipped file"),
    "array.json": (json.dumps(ROWS).encode(), r"line 1 is not an object; one object a line"),
    "broken.jsonl": (as_json(ROWS) + b'{"user_id": ', r"line 5 is not JSON"),
    "empty.jsonl": (b"\n", r"has no column user_id"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_file_is_one_sentence(tmp_path, name):
    content, complaint = UNUSABLE[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=complaint) as raised:
        imported(tmp_path / name, tmp_path)
    assert "\n" not in str(raised.value)


def test_an_empty_folder_and_another_scheme(tmp_path):
    (tmp_path / "shop").mkdir()
    with pytest.raises(UsageError, match=r"There is no file at or below .*shop"):
        imported(tmp_path / "shop", tmp_path)
    with pytest.raises(UsageError, match="scheme s3://"):
        imported("s3://bucket/orders.csv", tmp_path)


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    """The account that the environment names, or an emulator of our own."""
    if {"AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT_URL"} & os.environ.keys():
        yield blob_account()
        return
    with azurite_server(tmp_path_factory.mktemp("azurite")) as endpoint:
        yield BlobAccount(endpoint, AZURITE_KEY)


@pytest.fixture
def folder(account, monkeypatch):
    """A folder of the account for one test, found by its address alone."""
    if "AZURE_STORAGE_CONNECTION_STRING" not in os.environ:
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_URL", account.url)
    url = f"az://hyperrec-tests/{uuid.uuid4().hex}"
    yield url
    storage = open_storage(url)
    for blob in list(storage.list()):
        storage.delete(blob.name)


def test_a_container_as_source_and_as_target(tmp_path, folder):
    drop, raw = open_storage(f"{folder}/drop"), open_storage(f"{folder}/raw")
    for name in ("o.parquet", "o.csv.gz"):
        drop.write(name, FORMATS[name])

    report = import_source(drop.url, load_mapping("canonical"), raw)
    assert (report.rows_read, len(rows_of(raw)), report.files_written) == (6, 6, 5)

    # One blob, at the place it had in the folder: its parts are the same.
    again = import_source(f"{drop.url}/o.parquet", load_mapping("canonical"), raw)
    assert (again.rows_read, again.files_written, again.files_unchanged) == (3, 0, 3)

    assert contents(raw) == contents(imported_locally(tmp_path, drop))

    with pytest.raises(UsageError, match=r"no file at or below az://.*/nowhere: check"):
        import_source(f"{folder}/nowhere", load_mapping("canonical"), raw)


def imported_locally(tmp_path, drop):
    folder = tmp_path / "drop"
    folder.mkdir()
    for blob in drop.list():
        (folder / blob.name).write_bytes(drop.read(blob.name))
    target = open_storage(str(tmp_path / "raw"))
    import_source(str(folder), load_mapping("canonical"), target)
    return target


def contents(storage):
    """By folder: names of parts differ with the place of their source."""
    return sorted((b.name.rpartition("/")[0], storage.read(b.name)) for b in storage.list())


def test_a_second_import_into_a_container_leaves_every_etag(tmp_path, folder):
    (tmp_path / "o.csv").write_bytes(FORMATS["o.csv"])
    target = open_storage(folder)
    mapping = load_mapping("canonical")
    first = import_source(str(tmp_path / "o.csv"), mapping, target)
    before = list(target.list())
    second = import_source(str(tmp_path / "o.csv"), mapping, target)
    assert list(target.list()) == before
    assert (first.files_written, second.files_written, second.files_unchanged) == (3, 0, 3)
