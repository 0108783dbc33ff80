"""Whole imports: a shop's table with all its oddities, counts, days, catalogue, repetition."""

import hashlib
import io
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.errors import PipelineError, UsageError
from pipelines.importing import Mapping, import_source, load_mapping
from pipelines.importing import parts as parts_module
from pipelines.importing.rows import RAW_SCHEMA
from pipelines.storage import open_storage

MORNING = int(datetime(2010, 12, 1, 8, 26, tzinfo=UTC).timestamp())
DAY = 86_400

# InvoiceNo, StockCode, Description, Quantity, InvoiceDate, UnitPrice, CustomerID, Country
LINES = [
    ("536365", "85123A", "WHITE HEART", 6, MORNING, 2.55, 17850.0, "United Kingdom"),
    ("536365", "71053", "LANTERN", 1, MORNING, 3.39, 17850.0, "United Kingdom"),
    ("C536379", "85123A", "white heart ", -2, MORNING + 60, 2.55, 17850.0, "United Kingdom"),
    ("536370", "POST", "POSTAGE", 3, MORNING + DAY, 18.0, 12583.0, "France"),
    ("536414", "22139", None, 56, MORNING + DAY, 0.0, None, "United Kingdom"),
    ("536589", "21777", "?", -10, MORNING + DAY, 0.0, None, "United Kingdom"),
    ("A563185", "B", "Adjust bad debt", 1, None, -11062.06, None, "United Kingdom"),
    ("536371", "85123A", "WHITE HEART", 6, MORNING + 3 * DAY, 2.55, 13047.0, ""),
]
NAMES = [
    "InvoiceNo", "StockCode", "Description", "Quantity",
    "InvoiceDate", "UnitPrice", "CustomerID", "Country",
]  # fmt: skip


def table(rows=LINES, names=NAMES):
    return pa.table([pa.array(list(column)) for column in zip(*rows, strict=True)], names)


@pytest.fixture
def target(tmp_path):
    return open_storage(str(tmp_path / "raw"))


def parquet(path, contents):
    pq.write_table(contents, path)
    return str(path)


def read(target, prefix="interactions/"):
    tables = [pq.read_table(io.BytesIO(target.read(b.name))) for b in target.list(prefix)]
    assert all(t.schema.equals(RAW_SCHEMA) for t in tables) or prefix != "interactions/"
    return pa.concat_tables(tables).to_pylist()


def items(target):
    return {row["item_id"]: row for row in read(target, "items/")}


def test_a_shop_s_table_with_all_its_oddities(tmp_path, target):
    source = parquet(tmp_path / "retail.parquet", table())
    report = import_source(source, load_mapping("online-retail"), target)

    assert (report.rows_read, report.rows_written, report.rows_undated) == (8, 8, 1)
    assert (report.days, report.first_day, report.last_day) == (
        3, date(2010, 12, 1), date(2010, 12, 4),
    )  # fmt: skip
    assert report.unread == {}
    folders = [blob.name.split("/")[1] for blob in target.list("interactions/")]
    assert folders == ["dt=2010-12-01", "dt=2010-12-02", "dt=2010-12-04", "dt=unknown"]

    rows = read(target)
    assert [row["user_id"] for row in rows] == [
        "17850", "17850", "17850", "12583", None, None, "13047", None,
    ]  # fmt: skip
    returned = [row for row in rows if row["event_type"] == "return"]
    assert [(row["item_id"], row["quantity"]) for row in returned] == [("85123A", 2)]
    # Only a return's quantity changes sign: an adjustment is for the quality rules to judge.
    assert next(row for row in rows if row["item_id"] == "21777")["quantity"] == -10
    assert rows[0] == {
        "user_id": "17850", "item_id": "85123A", "event_type": "purchase", "quantity": 6,
        "event_time": datetime(2010, 12, 1, 8, 26, tzinfo=UTC), "price": 2.55, "rating": None,
        "market": "United Kingdom",
    }  # fmt: skip

    catalogue = items(target)
    assert set(catalogue) == {"85123A", "71053", "POST", "22139", "21777", "B"}
    assert report.items == 6
    assert catalogue["85123A"] == {
        "item_id": "85123A", "title": "WHITE HEART", "category": [], "is_live": True,
        "first_seen": datetime(2010, 12, 1, 8, 26, tzinfo=UTC),
    }  # fmt: skip
    assert catalogue["22139"]["title"] is None
    assert catalogue["B"]["first_seen"] is None


def test_importing_again_touches_nothing(tmp_path, target):
    source = parquet(tmp_path / "retail.parquet", table())
    mapping = load_mapping("online-retail")
    first = import_source(source, mapping, target)
    before = list(target.list())
    second = import_source(source, mapping, target)
    assert list(target.list()) == before
    assert (first.files_written, first.files_unchanged) == (5, 0)
    assert (second.files_written, second.files_unchanged) == (0, 5)


def test_files_of_one_name_in_other_folders_add_up(tmp_path, target):
    mapping = load_mapping("online-retail")
    for night, lines in (("n1", LINES[:4]), ("n2", LINES[1:6])):
        (tmp_path / night).mkdir()
        import_source(parquet(tmp_path / night / "orders.parquet", table(lines)), mapping, target)
    assert len(read(target)) == 4 + 5

    # The same place, however it is spelt.
    before = list(target.list())
    (tmp_path / "latest").symlink_to(tmp_path / "n2")
    for again in (f"{tmp_path}/n1/../n2/orders.parquet", str(tmp_path / "latest")):
        assert import_source(again, mapping, target).files_written == 0
    assert list(target.list()) == before


def test_a_corrected_file_replaces_its_days_and_leaves_others(tmp_path, target):
    mapping = load_mapping("online-retail")
    for name in ("a", "b"):
        import_source(parquet(tmp_path / f"{name}.parquet", table()), mapping, target)
    before = {blob.name: blob.etag for blob in target.list("interactions/")}
    source = parquet(tmp_path / "a.parquet", table(LINES[1:2]))
    report = import_source(source, mapping, target, replace=True)
    after = {blob.name: blob.etag for blob in target.list("interactions/")}
    assert {name.split("/")[1] for name in before.keys() - after.keys()} == {
        "dt=2010-12-01", "dt=unknown",
    }  # fmt: skip
    assert {name.split("/")[1] for name in after.keys() - before.keys()} == {"dt=2010-12-01"}
    assert all(before[name] == after[name] for name in before.keys() & after.keys())
    assert len(read(target)) == 8 + 8 - 2 - 1
    assert (report.rows_replaced, report.files_written) == (3, 1)


def test_rows_that_a_file_no_longer_holds_go_only_when_told(tmp_path, target):
    mapping = load_mapping("online-retail")
    import_source(parquet(tmp_path / "orders.parquet", table()), mapping, target)
    before = list(target.list())

    # The next night's file under the same name, with one late row of the day before.
    late = ("536372", "22139", "TEA SET", 1, MORNING + 60, 4.25, 17850.0, "France")
    night = [late, late, *LINES[7:]]
    source = parquet(tmp_path / "orders.parquet", table(night))
    with pytest.raises(
        UsageError,
        match=r"orders.parquet was imported before, and now lacks 3 of the rows that it held then "
        r"\(2010-12-01: 3\): give --replace if it corrects them; if it is another delivery, import "
        r"it from a folder of its own\.$",
    ):
        import_source(source, mapping, target)
    assert list(target.list()) == before

    # One that has only grown is no correction.
    source = parquet(tmp_path / "orders.parquet", table([*night, *LINES]))
    assert import_source(source, mapping, target).rows_replaced == 0
    assert len(read(target)) == 8 + 3
    # Of equal rows every one counts.
    source = parquet(tmp_path / "orders.parquet", table([*night[1:], *LINES]))
    with pytest.raises(UsageError, match=r"and now lacks 1 of the rows .*\(2010-12-01: 1\)"):
        import_source(source, mapping, target)


def test_parts_named_by_their_file_s_name_alone(tmp_path, target, caplog):
    """As imports named them before, in two folders' case one over the other."""
    mapping = load_mapping("online-retail")
    source = parquet(tmp_path / "orders.parquet", table())
    import_source(source, mapping, target)
    for blob in list(target.list("interactions/")):
        folder, _, _ = blob.name.rpartition("/")
        by_name = hashlib.sha256(b"orders.parquet").hexdigest()[:8]
        target.write(f"{folder}/part-{by_name}-0.parquet", target.read(blob.name))
        target.delete(blob.name)

    (tmp_path / "n2").mkdir()
    other = parquet(tmp_path / "n2" / "orders.parquet", table(LINES[1:2]))
    import_source(other, mapping, target)
    assert len(read(target)) == 8 + 1
    assert "does not hold 2 of their rows" in caplog.text

    import_source(source, mapping, target)
    assert len(read(target)) == 8 + 1
    assert {blob.name.count("-") for blob in target.list("interactions/dt=2010")} == {5}


def test_a_file_larger_than_the_buffer_has_several_parts_a_day(tmp_path, target, monkeypatch):
    mapping = load_mapping("online-retail")
    source = parquet(tmp_path / "retail.parquet", table(LINES * 50))
    monkeypatch.setattr("pipelines.importing.formats.BATCH_ROWS", 100)
    monkeypatch.setattr(parts_module, "BUFFER_BYTES", 20_000)
    report = import_source(source, mapping, target)
    parts = Counter(blob.name.split("/")[1] for blob in target.list("interactions/"))
    assert min(parts.values()) > 1
    assert report.rows_written == len(read(target)) == 400

    # With room for the whole file one part a day remains and the others are gone.
    monkeypatch.setattr(parts_module, "BUFFER_BYTES", 10**9)
    import_source(source, mapping, target)
    parts = Counter(blob.name.split("/")[1] for blob in target.list("interactions/"))
    assert set(parts.values()) == {1}
    assert len(read(target)) == 400


TEXTS = st.none() | st.text(st.characters(codec="utf-8"), max_size=5)
TIMES = (
    st.none()
    | st.sampled_from(["", "soon"])
    | st.datetimes(datetime(1999, 12, 31), datetime(2000, 1, 3)).map(datetime.isoformat)
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(TEXTS, TEXTS, TIMES, TEXTS), min_size=1, max_size=30), st.booleans())
def test_no_row_is_lost_and_ids_come_through(tmp_path_factory, rows, as_return):
    folder = tmp_path_factory.mktemp("random")
    columns = [pa.array(list(column), pa.string()) for column in zip(*rows, strict=True)]
    names = ["user_id", "item_id", "event_time", "quantity"]
    source = parquet(folder / "x.parquet", pa.table(columns, names))
    target = open_storage(str(folder / "raw"))
    mapping = load_mapping("canonical")
    if as_return:
        mapping = mapping.model_copy(
            update={"event_type": mapping.event_type.model_copy(update={"default": "return"})}
        )
    report = import_source(source, mapping, target)
    found = read(target)
    assert report.rows_read == report.rows_written == len(rows) == len(found)
    assert Counter((r["user_id"], r["item_id"]) for r in found) == Counter(r[:2] for r in rows)
    undated = [row for row in rows if row[2] in (None, "", "soon")]
    assert report.rows_undated == len(undated)
    assert report.unread.get("event_time", 0) == sum(row[2] == "soon" for row in undated)
    for blob in target.list("interactions/"):
        day = blob.name.split("/")[1].removeprefix("dt=")
        for row in pq.read_table(io.BytesIO(target.read(blob.name))).to_pylist():
            time = row["event_time"]
            assert (time.date().isoformat() if time else "unknown") == day


def test_order_breaks_ties_without_changing_places(tmp_path, target):
    rows = [("u", "c", 100, 2), ("u", "a", 100, 0), ("u", "d", 101, 3), ("u", "b", 100, 1),
            ("v", "a", 100, None)]  # fmt: skip
    rows = [(user, item, MORNING + time, position) for user, item, time, position in rows]
    source = parquet(
        tmp_path / "x.parquet", table(rows, ["user_id", "item_id", "timestamp", "position"])
    )
    import_source(source, load_mapping("interactions"), target)
    found = sorted((r["user_id"], r["event_time"], r["item_id"]) for r in read(target))
    assert [item for user, _, item in found if user == "u"] == ["a", "b", "c", "d"]
    start = datetime.fromtimestamp(MORNING + 100, UTC)
    steps = [(time - start) / timedelta(seconds=1) for _, time, _ in found]
    assert steps == [0, 1, 2, 4, 0]


def test_order_stands_in_where_no_row_has_a_time(tmp_path, target):
    columns = {
        "user_id": ["u", "u", "v"], "item_id": ["a", "b", "a"], "position": [0, 1, None],
        "timestamp": pa.nulls(3, pa.int64()),
    }  # fmt: skip
    source = parquet(tmp_path / "x.parquet", pa.table(columns))
    report = import_source(source, load_mapping("interactions"), target)
    assert (report.first_day, report.last_day) == (date(2000, 1, 1), date(2000, 1, 2))
    assert report.rows_undated == 1

    # One time in the source, and the rows without one are undated.
    columns["timestamp"] = pa.array([MORNING, None, None])
    source = parquet(tmp_path / "y.parquet", pa.table(columns))
    assert import_source(source, load_mapping("interactions"), target).rows_undated == 2


@pytest.mark.parametrize("outside", [-1, 86_400])
def test_an_order_that_counts_something_else_is_refused(tmp_path, target, outside):
    columns = {"user_id": ["u"], "item_id": ["a"], "timestamp": [MORNING], "position": [outside]}
    source = parquet(tmp_path / "x.parquet", pa.table(columns))
    with pytest.raises(UsageError, match=rf"column position holds {outside}, which is no order"):
        import_source(source, load_mapping("interactions"), target)


COLUMNS = {"user_id": "u", "item_id": "i", "event_time": "t"}


def test_the_first_rule_decides_then_the_column_then_the_default(tmp_path, target):
    mapping = Mapping.model_validate(
        {
            "columns": COLUMNS | {"event_type": "e"},
            "event_type": {
                "default": "view",
                "when": [
                    {"column": "e", "matches": "^cart", "is": "add_to_bag"},
                    {"column": "n", "matches": "^[0-9]$", "is": "save"},
                    {"column": "e", "matches": "cart", "is": "purchase"},
                ],
            },
        }
    )
    rows = [("carted", 1), ("uncarted", 12), ("x", 3), ("rating", 12), ("", 12), (None, None)]
    columns = [("u", "i", MORNING, event, number) for event, number in rows]
    source = parquet(tmp_path / "x.parquet", table(columns, ["u", "i", "t", "e", "n"]))
    import_source(source, mapping, target)
    assert [row["event_type"] for row in read(target)] == [
        "add_to_bag", "purchase", "save", "rating", "view", "view",
    ]  # fmt: skip


def test_titles_and_category_paths_are_the_most_frequent_ones(tmp_path, target):
    mapping = Mapping.model_validate(
        {"columns": COLUMNS, "catalogue": {"title": "n", "category": ["c", "d"], "is_live": "l"}}
    )
    rows = [
        ("a", "two", "X", "Y", True),
        ("a", " two", "X", "Y", False),
        ("a", "one", "X", None, False),
        ("b", "tie b", None, " ", None),
        ("b", "tie a", None, None, None),
        (None, "nobody", "X", "Y", True),
        (" ", "nobody", "X", "Y", True),
    ]
    source = parquet(
        tmp_path / "x.parquet",
        table([("u", i, MORNING, n, c, d, v) for i, n, c, d, v in rows],
              ["u", "i", "t", "n", "c", "d", "l"]),
    )  # fmt: skip
    assert import_source(source, mapping, target).items == 2
    found = {
        key: (row["title"], row["category"], row["is_live"]) for key, row in items(target).items()
    }
    assert found == {"a": ("two", ["X", "Y"], False), "b": ("tie a", [], True)}


def test_flags_written_as_numbers_and_flags_that_are_none(tmp_path, target):
    mapping = Mapping.model_validate({"columns": COLUMNS, "catalogue": {"is_live": "l"}})
    flags = {"a": "0.0", "b": "1.0", "c": "off", "d": "perhaps", "e": ""}
    lines = [f"u,{item},{MORNING},{flag}\n" for item, flag in flags.items()]
    source = tmp_path / "x.csv"
    source.write_text("u,i,t,l\n" + "".join(lines))
    report = import_source(str(source), mapping, target)
    assert report.unread == {"is_live": 1}
    assert {item: row["is_live"] for item, row in items(target).items()} == {
        "a": False, "b": True, "c": False, "d": True, "e": True,
    }  # fmt: skip


def test_a_catalogue_beside_the_rows_and_yesterday_s(tmp_path, target):
    folder = tmp_path / "shop"
    folder.mkdir()
    mapping = load_mapping("canonical")
    names = ["user_id", "item_id", "event_time"]
    parquet(folder / "monday.parquet", table([("u", "a", MORNING + DAY)], names))
    catalogue = {
        "item_id": ["a", "b"], "title": ["A", "B"], "category": [["X", "Y"], None],
        "is_live": [True, False],
    }  # fmt: skip
    parquet(folder / "items.parquet", pa.table(catalogue))
    for source in (folder, folder / "monday.parquet"):
        report = import_source(str(source), mapping, target)
        assert (report.rows_read, report.items) == (1, 2)
    assert items(target)["b"] == {
        "item_id": "b", "title": "B", "category": [], "is_live": False, "first_seen": None,
    }  # fmt: skip

    (folder / "items.parquet").unlink()
    rows = [("u", "a", MORNING), ("u", "c", MORNING)]
    import_source(parquet(folder / "tuesday.parquet", table(rows, names)), mapping, target)
    found = items(target)
    assert set(found) == {"a", "b", "c"}
    assert (found["a"]["title"], found["a"]["category"]) == ("A", ["X", "Y"])
    assert found["a"]["first_seen"] == datetime.fromtimestamp(MORNING, UTC)

    needed = mapping.model_copy(update={"optional": mapping.optional - {"catalogue"}})
    with pytest.raises(UsageError, match=r"There is no items.parquet beside"):
        import_source(str(folder), needed, target)

    target.write("items/part-0.parquet", b"something else")
    with pytest.raises(PipelineError, match=r"items/part-0.parquet in .* is no catalogue"):
        import_source(str(folder), mapping, target)


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["user", "item_id", "event_time"],
         r"x.parquet has no column user_id, which the mapping names under \[columns\] user_id: its "
         r"columns are user, item_id, event_time; did you mean user\?"),
        (["user_id", "item_id", "EventTime"], r"did you mean EventTime\?"),
        (["user_id", "sku", "event_time"], r"its columns are user_id, sku, event_time\.$"),
    ],
)  # fmt: skip
def test_a_column_that_is_not_there(tmp_path, target, names, complaint):
    source = parquet(tmp_path / "x.parquet", table([("u", "a", MORNING)], names))
    with pytest.raises(UsageError, match=complaint):
        import_source(source, load_mapping("canonical"), target)
    assert list(target.list()) == []


def test_every_file_is_checked_before_any_is_written(tmp_path, target):
    folder = tmp_path / "shop"
    folder.mkdir()
    names = ["user_id", "item_id", "event_time"]
    parquet(folder / "1.parquet", table([("u", "a", MORNING)], names))
    parquet(folder / "2.parquet", table([("u", "a")], names[:2]))
    with pytest.raises(UsageError, match=r"2.parquet has no column event_time"):
        import_source(str(folder), load_mapping("canonical"), target)
    assert list(target.list()) == []


def test_a_rule_and_a_description_name_their_columns_too(tmp_path, target):
    source = parquet(tmp_path / "x.parquet", table([("u", "a", MORNING)], ["u", "i", "t"]))
    rule = {"when": [{"column": "Invoice", "matches": "^C", "is": "return"}]}
    with pytest.raises(UsageError, match=r"no column Invoice.*under \[\[event_type.when\]\]"):
        import_source(
            source, Mapping.model_validate({"columns": COLUMNS, "event_type": rule}), target
        )
    path = {"category": ["group", "class"]}
    with pytest.raises(UsageError, match=r"no column group.*under \[catalogue\] category"):
        import_source(
            source, Mapping.model_validate({"columns": COLUMNS, "catalogue": path}), target
        )


def test_a_folder_with_a_whole_file_and_an_extract_is_imported_once(tmp_path, target):
    folder = tmp_path / "retail"
    folder.mkdir()
    parquet(folder / "all_lines.parquet", table())
    parquet(folder / "interactions.parquet", table(LINES[:2]))
    assert import_source(str(folder), load_mapping("online-retail"), target).rows_read == 8
    (folder / "all_lines.parquet").rename(folder / "lines.parquet")
    assert import_source(str(folder), load_mapping("online-retail"), target).rows_read == 10
    only = Mapping.model_validate({"files": "orders*", "columns": COLUMNS})
    with pytest.raises(UsageError, match=r"No file of .* is named like orders\*.*interactions"):
        import_source(str(folder), only, target)
