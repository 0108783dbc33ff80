"""The ledger of what was planted is whole, adds up, and shares of dirt are what it is asked for."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines import synthesise
from pipelines.errors import UsageError
from pipelines.storage import Folder
from pipelines.synthesise import CatalogueConfig
from pipelines.synthesise.dirt.kinds import KINDS, amount, parse_shares
from pipelines.synthesise.write import Written, write_catalogue
from tests.pipelines.synthesise.shop import DRIFT, SHOP, Row, is_sound, read


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
