"""Whole imports: a shop's table with all its oddities, counts, days, catalogue."""

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
