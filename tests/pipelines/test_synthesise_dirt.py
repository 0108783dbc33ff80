"""Every kind of dirt is in the files as often as the ledger says, by a reading of its own."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import synthesise
from pipelines.errors import UsageError
from pipelines.storage import Folder
from pipelines.synthesise import CatalogueConfig
from pipelines.synthesise.dirt.kinds import KINDS, amount, parse_shares
from pipelines.synthesise.write import Written, write_catalogue

SHARE = 0.01
SHOP = CatalogueConfig(
    users=300, items=250, interactions=6000, days=60, last_day=date(2024, 6, 30), seed=5
)
ROWS, FILES = 60, 1  # that share of its interactions and of its days
END = datetime(2024, 7, 1, tzinfo=UTC)

Row = dict[str, Any]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    write_catalogue(SHOP, Folder(folder))
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Written]:
    folder = tmp_path_factory.mktemp("dirty")
    return folder, write_catalogue(SHOP, Folder(folder), dirt=parse_shares([str(SHARE)]))


@pytest.fixture(scope="module")
def dirty(written: tuple[Path, Written]) -> Path:
    return written[0]


@pytest.fixture(scope="module")
def ledger(dirty: Path) -> Row:
    return json.loads((dirty / "_planted/ledger.json").read_text())


def read(path: Path) -> list[Row]:
    """The rows of a file that can be read, with Python's own readers where there are any."""
    if path.name.endswith(".parquet"):
        return pq.read_table(path).to_pylist()
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.name.endswith(".gz") else data).decode()
    if ".csv" in path.name:
        rows = list(csv.DictReader(io.StringIO(text)))
    else:
        rows = [json.loads(line) for line in text.splitlines()]
    return [typed(row) for row in rows]


def typed(row: Row) -> Row:
    numbers = {"quantity": int, "price": float}
    row = {
        name: None if value in {"", None} else numbers.get(name, str)(value)
        for name, value in row.items()
    }
    try:
        return row | {"event_time": datetime.fromisoformat(row["event_time"])}
    except ValueError:
        return row


def is_sound(row: Row) -> bool:
    """A reading of the contract of raw rows."""
    ids = [row["user_id"], row["item_id"]]
    numbers = [row[name] for name in ("quantity", "price", "rating") if name in row]
    return (
        all(isinstance(text, str) and text.isprintable() for text in ids)
        and all(text.strip() and len(text) <= 255 for text in ids)
        and row["event_type"] in {"purchase", "view", "add_to_bag", "save", "rating", "return"}
        and isinstance(row["event_time"], datetime)
        and datetime(2000, 1, 1, tzinfo=UTC) <= row["event_time"] < END
        and all(math.isfinite(number) for number in numbers)
        and row["quantity"] > 0
        and row["price"] >= 0
    )


def is_unprintable(text: str) -> bool:
    return any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text) and text.strip() != ""


ONE_BAD_VALUE: dict[str, Callable[[Row], bool]] = {
    **{
        f"{name}_{kind}": lambda row, name=name, bad=bad: bad(row[name])
        for name in ("user_id", "item_id")
        for kind, bad in {
            "null": lambda text: text is None,
            "empty": lambda text: text == "",
            "blank": lambda text: text != "" and text is not None and not text.strip(" \t"),
            "long": lambda text: len(text) > 255,
            "control": is_unprintable,
        }.items()
    },
    "event_type_word": lambda row: row["event_type"] in {"click", "wishlist", "returned"},
    "event_time_null": lambda row: row["event_time"] is None,
    "event_time_text": lambda row: isinstance(row["event_time"], str),
    "event_time_1970": lambda row: row["event_time"].year == 1970,
    "event_time_future": lambda row: row["event_time"] >= END,
    "quantity_zero": lambda row: row["event_type"] == "purchase" and row["quantity"] == 0,
    "quantity_negative": lambda row: row["event_type"] == "purchase" and row["quantity"] < 0,
    "price_below_zero": lambda row: row["price"] < 0,
    **{
        f"{name}_{kind}": lambda row, name=name, bad=bad: bad(row[name])
        for name in ("quantity", "price", "rating")
        for kind, bad in {"nan": math.isnan, "infinite": math.isinf}.items()
    },
}


@pytest.mark.parametrize("kind", ONE_BAD_VALUE)
def test_rows_with_one_bad_value(kind: str, dirty: Path, ledger: Row) -> None:
    entry = ledger["kinds"][kind]
    rows = [row for name in entry["files"] for row in read(dirty / name)]
    bad = [ONE_BAD_VALUE[kind](row) for row in rows]
    assert sum(bad) == ROWS
    assert list(entry["rules"].values()) == [ROWS]
    assert [is_sound(row) for row in rows] == [not each for each in bad]
    assert len(rows) - ROWS == entry["kept"] > 0
    assert 0 < len(entry["examples"]) <= 3
    # Among sound rows, not after them.
    assert bad != sorted(bad)


def test_lines_of_csv_with_a_field_too_many_or_too_few(dirty: Path, ledger: Row) -> None:
    for kind, surplus in (("csv_field_too_many", 1), ("csv_field_too_few", -1)):
        entry = ledger["kinds"][kind]
        (name,) = entry["files"]
        header, *lines = csv.reader(io.StringIO((dirty / name).read_text()))
        lengths = Counter(len(line) - len(header) for line in lines)
        assert lengths == {surplus: ROWS, 0: entry["kept"]}
        assert entry["rules"] == {"row_unreadable": ROWS}


def test_lines_of_json_that_are_broken_or_lists(dirty: Path, ledger: Row) -> None:
    def kind_of(line: str) -> str:
        try:
            return type(json.loads(line)).__name__
        except ValueError:
            return "broken"

    for kind, bad in (("json_line_broken", "broken"), ("json_line_list", "list")):
        entry = ledger["kinds"][kind]
        (name,) = entry["files"]
        kinds = Counter(kind_of(line) for line in (dirty / name).read_text().splitlines())
        assert kinds == {bad: ROWS, "dict": entry["kept"]}
        assert entry["rules"] == {"row_unreadable": ROWS}


@pytest.mark.parametrize(
    "kind", ["duplicate_within_file", "duplicate_on_another_day", "duplicate_file"]
)
def test_duplicates(kind: str, dirty: Path, ledger: Row) -> None:
    entry = ledger["kinds"][kind]
    files = [read(dirty / name) for name in entry["files"]]
    times_there = Counter(repr(row) for rows in files for row in rows)
    assert set(times_there.values()) == {2}
    assert len(times_there) == ROWS == entry["kept"]
    assert entry["rules"] == {"duplicate": ROWS}
    days = {name.split("/")[1] for name in entry["files"]}
    assert (len(files), len(days)) == {
        "duplicate_within_file": (1, 1),
        "duplicate_on_another_day": (2, 2),
        "duplicate_file": (2, 1),
    }[kind]
    if kind == "duplicate_file":
        contents = [(dirty / name).read_bytes() for name in entry["files"]]
        assert contents[0] == contents[1]


def test_repeated_events_differ_in_price_alone(dirty: Path, ledger: Row) -> None:
    entry = ledger["kinds"]["repeated_with_other_price"]
    rows = [row for name in entry["files"] for row in read(dirty / name)]
    events = Counter(repr({**row, "price": None}) for row in rows)
    assert set(events.values()) == {2}
    assert len({repr(row) for row in rows}) == 2 * ROWS
    assert entry["rules"] == {"repeated_event": ROWS}
    assert entry["kept"] == ROWS


def test_returned_purchases(dirty: Path, ledger: Row) -> None:
    entry = ledger["kinds"]["returned_purchase"]
    rows = [row for name in entry["files"] for row in read(dirty / name)]
    pairs = defaultdict(dict)
    for row in rows:
        pairs[row["user_id"], row["item_id"]][row["event_type"]] = row
    assert len(pairs) == ROWS
    for pair in pairs.values():
        assert pair.keys() == {"purchase", "return"}
        assert pair["purchase"]["event_time"] < pair["return"]["event_time"]
        assert abs(pair["return"]["quantity"]) == pair["purchase"]["quantity"]
    assert {pair["return"]["quantity"] < 0 for pair in pairs.values()} == {True, False}
    assert entry["rules"] == {"return": ROWS, "cancelled_purchase": ROWS}
    assert entry["kept"] == 0


def test_a_bot_has_more_than_a_thousand_events_in_a_day(dirty: Path, ledger: Row) -> None:
    entry = ledger["kinds"]["bot"]
    rows = [row for name in entry["files"] for row in read(dirty / name)]
    assert len({row["user_id"] for row in rows}) == 1
    days = Counter(row["event_time"].date() for row in rows)
    assert max(days.values()) > 1000
    assert len(days) == 2
    assert len({repr(row) for row in rows}) == len(rows) == entry["rules"]["bot"]
    assert all(is_sound(row) for row in rows)


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


DRIFT = [name for name, kind in KINDS.items() if kind.plant is None]


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


def test_kinds_share_no_user_and_no_file(dirty: Path, ledger: Row) -> None:
    users: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for kind, entry in ledger["kinds"].items():
        files.update(entry["files"])
        if entry["fate"] == "files" or kind in DRIFT or kind.startswith(("csv_", "json_")):
            continue
        rows = [row for name in entry["files"] for row in read(dirty / name)]
        users.update({str(row["user_id"]) for row in rows if is_sound(row) or kind == "bot"})
    assert set(users.values()) == {1}
    assert set(files.values()) == {1}
    assert not any(user.startswith("u") for user in users)


def test_the_ledger_adds_up(dirty: Path, ledger: Row, written: tuple[Path, Written]) -> None:
    assert ledger["as_of"] == SHOP.last_day.isoformat()
    sums = {fate: Counter() for fate in ("quarantined", "dropped", "files")}
    for entry in ledger["kinds"].values():
        if entry["fate"] != "kept":
            sums[entry["fate"]].update(entry["rules"])
    assert {fate: ledger[fate] for fate in sums} == sums
    rows = ledger["rows"]
    assert rows["shop"] == SHOP.interactions
    assert rows["read"] - rows["kept"] == sum(
        sum(ledger[fate].values()) for fate in ("quarantined", "dropped")
    )

    # Every row of every file that can be read, counted without the ledger; lines by themselves.
    bad = {
        n for entry in ledger["kinds"].values() if entry["fate"] == "files" for n in entry["files"]
    }
    count = 0
    paths = [path for path in (dirty / "interactions").rglob("*") if path.is_file()]
    for path in paths:
        if path.relative_to(dirty).as_posix() in bad:
            continue
        if path.suffix == ".parquet":
            count += pq.read_metadata(path).num_rows
        else:
            data = path.read_bytes()
            text = gzip.decompress(data) if path.suffix == ".gz" else data
            count += len(text.splitlines()) - (".csv" in path.name)
    assert count == rows["read"]
    _, told = written
    assert (told.read, told.kept, told.was_there) == (rows["read"], rows["kept"], False)
    assert told.files == len(paths) + 1  # and the catalogue


def test_every_kind_is_there(ledger: Row) -> None:
    assert list(ledger["kinds"]) == list(KINDS)
    dirt = {name: kind for name, kind in KINDS.items() if kind.fate != "kept"}
    assert len(dirt) >= 30
    for name, kind in dirt.items():
        assert kind.rules == tuple(ledger["kinds"][name]["rules"])


def test_every_kind_is_described_beside_its_rules() -> None:
    text = Path(synthesise.__file__).with_name("README.md").read_text()
    table = dict(
        line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")
    )
    for name, kind in KINDS.items():
        if kind.fate == "kept":
            assert f"`{name}`" in text.partition("Drift,")[2]
        else:
            ((_, rules),) = [cells for cells in table.items() if f"`{name}`" in cells[0]]
            assert re.findall(r"`(\w+)`", rules) == list(kind.rules)


def test_the_shop_itself_is_sound(clean: Path) -> None:
    rows = [row for path in (clean / "interactions").rglob("*.parquet") for row in read(path)]
    assert len(rows) == SHOP.interactions
    assert all(is_sound({**row, "quantity": row["quantity"] or 1}) for row in rows)
    keys = [(row["user_id"], row["item_id"], row["event_type"], row["event_time"]) for row in rows]
    assert len(set(keys)) == len(keys)
    a_day = Counter((row["user_id"], row["event_time"].date()) for row in rows)
    assert max(a_day.values()) <= 1000
    assert not (clean / "_planted").exists()


def test_shares_are_of_every_kind_or_of_one() -> None:
    assert parse_shares([]) == {}
    assert parse_shares(["bot=0.5"]) == {"bot": 0.5}
    every = parse_shares(["0.001", "bot=0.5", "user_id_null=0"])
    assert every["bot"] == 0.5
    assert "user_id_null" not in every
    assert every.keys() == KINDS.keys() - {"user_id_null"}
    assert set(every.values()) == {0.5, 0.001}
    assert amount(KINDS["bot"], 0.5, SHOP) == 3000
    assert amount(KINDS["empty_file"], 0.5, SHOP) == 30
    assert amount(KINDS["user_id_null"], 1e-9, SHOP) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["2"], "--dirt 2 is neither SHARE nor KIND=SHARE"),
        (["-0.1"], "--dirt -0.1 is neither"),
        (["nan"], "--dirt nan is neither"),
        (["bot"], "--dirt bot is neither"),
        (["bot="], "--dirt bot= is neither"),
        (
            ["robot=0.1"],
            r"no kind of dirt robot \(did you mean bot\?\): choose from user_id_null, ",
        ),
        (["bot=0.1", "bot=0.2"], "a share of bot twice"),
        (["0.1", "0.2"], "a share of every kind twice"),
    ],
)
def test_shares_that_are_none(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_shares(words)


@pytest.mark.parametrize(
    ("days", "shares"), [(12, ["0.001"]), (3, ["bot=0.1"]), (60, ["as_csv=0.6", "as_json=0.6"])]
)
def test_too_few_days_for_so_much_dirt_are_refused_at_once(
    days: int, shares: list[str], tmp_path: Path
) -> None:
    shop = CatalogueConfig(**{**vars(SHOP), "days": days})
    with pytest.raises(UsageError, match=r"give more --days or smaller shares\.$"):
        write_catalogue(shop, Folder(tmp_path / "raw"), dirt=parse_shares(shares))
    assert not (tmp_path / "raw").exists()
