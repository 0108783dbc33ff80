"""The whole job over a folder: every row counted, bad files set aside, outputs reproducible."""

from __future__ import annotations

import hashlib
import random
from collections import Counter

import pyarrow as pa
import pytest

from hyperrec_core.histories import Histories
from pipelines.errors import PipelineError, UsageError
from pipelines.preprocess.config import PreprocessConfig
from pipelines.preprocess.histories import HISTORIES
from pipelines.preprocess.report import Report
from pipelines.preprocess.vocabulary import VOCABULARY
from pipelines.storage import Folder
from tests.pipelines.preprocess.support import (
    at,
    event,
    parquet,
    put_days,
    rows_of,
    run_job,
)
from tests.pipelines.preprocess.test_quality import DIRT

CONFIG = PreprocessConfig(
    split="leave_last_out",
    maximum_quarantined_share=0.5,
    maximum_history=20,
    drop={"postage": "item_id = 'POST'"},
)

# Two items nobody else buys, so that a test and a validation label have an unseen item.
CLEAN = [
    event(f"u{user}", f"i{(user * step) % 7}", at(step * 60, day=1 + step), price=1.0)
    for user in range(6)
    for step in range(25)
] + [event("u0", "rare", at(day=28)), event("u0", "rarer", at(day=29))]

DROPPED = {
    "postage": [event(None, "POST", at(day=2)), event("u1", "POST", at(day=3))],
    "duplicate": [CLEAN[3], CLEAN[4], CLEAN[4]],
    "return": [event("u1", "gone", at(9, day=4), event_type="return")],
    "cancelled_purchase": [event("u1", "gone", at(8, day=4))],
    "repeated_event": [{**CLEAN[6], "quantity": 3.0}],
}

BAD_FILES = {
    "interactions/dt=2024-03-02/truncated.parquet": parquet(CLEAN)[:-30],
    "interactions/dt=2024-03-03/empty.csv": b"",
    "interactions/dt=2024-03-04/columns.csv": b"a,b\n1,2\n",
}

BAD_CATALOGUE_FILES = {
    "items/a.parquet": (parquet(CLEAN)[:-30], "file_unreadable"),
    "items/b.csv": ("item_id,title\ni1,Café\n".encode("latin-1"), "file_unreadable"),
    "items/c.csv": (b"sku,is_live\ni1,0\n", "file_without_column"),
}

CATALOGUE = pa.table(
    {
        # Nobody buys `new`; `rare` is bought, but not in training.
        "item_id": ["i1", "i2", "new", "rare"],
        "title": ["One", "Two", "New", "Rare"],
        "category": [["x"], ["x", "y"], ["x"], ["z"]],
    }
)


@pytest.fixture(scope="module")
def planted(spark, tmp_path_factory):
    """A folder with every kind of dirt, and what the job makes of it."""
    source, runs = (Folder(tmp_path_factory.mktemp(name)) for name in ("raw", "runs"))
    put_days(source, CLEAN)
    put_days(source, [row for rows in DROPPED.values() for row in rows], name="late.parquet")
    dirt = [row for rule, rows in DIRT.items() for row in rows if rule != "row_unreadable"]
    source.write("interactions/dt=2024-03-31/dirt.parquet", parquet(dirt))
    source.write(
        "interactions/dt=2024-03-05/lines.jsonl",
        b'{"user_id": "u1", "item_id": "i6", "event_time": "2024-03-05T23:00:00Z"}\n{"user_id"\n',
    )
    for name, data in BAD_FILES.items():
        source.write(name, data)
    source.write("items/catalogue.parquet", parquet(CATALOGUE))
    return source, *run_job(spark, source, runs, CONFIG)


def test_every_planted_row_is_counted_under_its_own_rule(planted):
    _, metrics, _, _ = planted
    assert metrics["quarantined"] == {rule: len(rows) for rule, rows in DIRT.items()}
    cap = metrics["dropped"].pop("history_cap")
    assert metrics["dropped"] == {rule: len(rows) for rule, rows in DROPPED.items()}
    metrics["dropped"]["history_cap"] = cap
    users = Counter(row["user_id"] for row in CLEAN) + Counter(["u1"])
    assert cap == sum(count - 20 for count in users.values())
    assert metrics["rows_kept"] == metrics["interactions"] == 20 * len(users)
    assert metrics["rows_read"] == len(CLEAN) + 1 + sum(
        len(rows) for rules in (DIRT, DROPPED) for rows in rules.values()
    )
    assert metrics["rows_read"] == (
        metrics["rows_kept"] + metrics["rows_quarantined"] + metrics["rows_dropped"]
    )


def test_quarantine_holds_the_rows_with_reasons_and_files(planted):
    _, metrics, tables, _ = planted
    rows = rows_of(tables, "quarantine/")
    files = {row["source_file"]: row for row in rows if row["source_file"] in BAD_FILES}
    assert set(files) == set(metrics["files_quarantined"])
    assert [files[name]["reasons"] for name in BAD_FILES] == [
        ["file_unreadable"],
        ["file_empty"],
        ["file_without_column"],
    ]
    for name, row in files.items():
        assert f"{row['reasons'][0]}: {row['detail']}" == metrics["files_quarantined"][name]
    assert "no column user_id" in files["interactions/dt=2024-03-04/columns.csv"]["detail"]
    reasons = Counter(row["reasons"][0] for row in rows if row["source_file"] not in files)
    assert reasons == metrics["quarantined"]
    [line] = [row for row in rows if row["reasons"] == ["row_unreadable"]]
    assert (line["source_file"], line["detail"]) == (
        "interactions/dt=2024-03-05/lines.jsonl",
        'not a JSON object: {"user_id"',
    )


def test_what_cannot_be_read_of_a_catalogue_is_told(spark, tmp_path, caplog):
    source, runs = Folder(tmp_path / "raw"), Folder(tmp_path / "runs")
    put_days(source, CLEAN)
    for name, (data, _) in BAD_CATALOGUE_FILES.items():
        source.write(name, data)
    source.write("items/d.csv", b"item_id,is_live\ni1,0.0\ni2,1.0\ni3,maybe\ni4,\ni5,0,1\n")
    metrics, tables, attempt = run_job(spark, source, runs, CONFIG)

    told = metrics["files_quarantined"]
    assert {name: why.partition(":")[0] for name, why in told.items()} == {
        name: rule for name, (_, rule) in BAD_CATALOGUE_FILES.items()
    }
    assert metrics["catalogue_rows_unread"] == 2
    assert (metrics["rows_quarantined"], metrics["quarantined"]) == (0, {})
    rows = rows_of(tables, "quarantine/")
    assert {(row["source_file"], row["item_id"], *row["reasons"]) for row in rows} == {
        *((name, None, rule) for name, (_, rule) in BAD_CATALOGUE_FILES.items()),
        ("items/d.csv", "i3", "row_unreadable"),
        ("items/d.csv", None, "row_unreadable"),
    }
    assert "is_live is neither true nor false: maybe" in {row["detail"] for row in rows}
    for name in BAD_CATALOGUE_FILES:
        assert f"Quarantined the catalogue file {name} (" in caplog.text
    assert "2 rows of the catalogue file items/d.csv, or their is_live," in caplog.text

    report = Report.from_json(runs.read(f"{attempt.folder}/report.json"))
    assert [file.name for file in report.bad_files] == list(BAD_CATALOGUE_FILES)
    [verdict] = [each for each in report.verdicts if each.name == "bad_files"]
    assert verdict.level == "warn"
    assert "items/a.parquet" in verdict.sentence
    live = {row["item_id"]: row["is_live"] for row in rows_of(tables, "vocabulary")}
    assert [live[f"i{n}"] for n in (1, 2, 3, 4)] == [False, True, True, True]


def test_outputs_are_as_the_contract_has_them(planted):
    _, metrics, tables, attempt = planted
    assert tables["vocabulary.parquet"].schema == VOCABULARY
    assert metrics["items"] == tables["vocabulary.parquet"].num_rows
    titles = {row["item_id"]: row["title"] for row in rows_of(tables, "vocabulary")}
    assert (titles["i1"], titles["i2"], titles["i3"]) == ("One", "Two", None)
    counts = [row["count"] for row in rows_of(tables, "vocabulary")]
    assert list(titles.values())[-2:] == ["New", "Rare"]
    assert counts[-2:] == [0, 0] and min(counts[:-2]) > 0
    assert metrics["items_without_interactions"] == 2
    for split in ("train", "validation", "test"):
        assert f"histories/{split}/part-00000.parquet" in tables
        rows = rows_of(tables, f"histories/{split}/")
        assert len({row["user_id"] for row in rows}) == len(rows)
        assert metrics["labels"][split] == sum(sum(row["is_label"]) for row in rows)
        assert metrics["labels"][split]
    for name, table in tables.items():
        if name.startswith("histories/"):
            assert table.schema == HISTORIES
            # What training does not have stands nowhere; labels of `rare` are counted below.
            assert max(max(items) for items in table["items"].to_pylist()) < len(counts) - 2
            assert Histories.from_tables([table], items=len(counts)).events is not None
    assert metrics["users"] == len({row["user_id"] for row in CLEAN})
    assert metrics["labels_unseen_item"] == {"train": 0, "validation": 1, "test": 1}
    for output in attempt.outputs:
        data = attempt.run.storage.read(f"{attempt.run.run_id}/{output.path}")
        assert (len(data), hashlib.sha256(data).hexdigest()) == (output.bytes, output.sha256)
        if output.name in tables:
            assert output.rows == tables[output.name].num_rows


def test_another_order_of_rows_and_files_gives_equal_outputs(spark, planted, tmp_path):
    source, metrics, tables, attempt = planted
    other = Folder(tmp_path / "raw")
    mixed = CLEAN + [row for rows in DROPPED.values() for row in rows]
    random.Random(0).shuffle(mixed)
    for number, start in enumerate(range(0, len(mixed), 40)):
        put_days(other, mixed[start : start + 40], name=f"{9 - number}.parquet")
    other.write(
        "interactions/dt=unknown/lines.jsonl",
        source.read("interactions/dt=2024-03-05/lines.jsonl"),
    )
    other.write("items/catalogue.parquet", parquet(CATALOGUE))
    again, found, repeated = run_job(spark, other, Folder(tmp_path / "runs"), CONFIG)
    assert again["labels"] == metrics["labels"]
    for name in tables:
        if not name.startswith("quarantine/"):
            assert found[name].equals(tables[name]), name
    bytes_of = {o.name: o.sha256 for o in attempt.outputs}
    assert {o.name: o.sha256 for o in repeated.outputs}["vocabulary.parquet"] == (
        bytes_of["vocabulary.parquet"]
    )


def failure(spark, tmp_path, rows, *, files=None, **config):
    source, runs = Folder(tmp_path / "raw"), Folder(tmp_path / "runs")
    put_days(source, rows)
    for name, data in (files or {}).items():
        source.write(name, data)
    with pytest.raises(PipelineError) as caught:
        run_job(spark, source, runs, PreprocessConfig(**config))
    message = str(caught.value)
    assert "\n" not in message
    return caught.type, message


def test_a_column_of_features_is_kept_by_item(spark, tmp_path):
    source = Folder(tmp_path / "raw")
    put_days(source, CLEAN)
    source.write("items/catalogue.parquet", parquet(CATALOGUE))
    vectors = {f"i{n}": [float(n), 1.0] for n in range(5)}
    table = pa.table({"item_id": list(vectors), "looks": list(vectors.values())})
    source.write("items/later.parquet", parquet(table))
    config = CONFIG.model_copy(update={"feature_column": "looks"})
    metrics, tables, _ = run_job(spark, source, Folder(tmp_path / "runs"), config)
    rows = tables["vocabulary.parquet"].to_pylist()
    assert [row["title"] for row in rows if row["item_id"] == "i1"] == ["One"]
    assert tables["features.parquet"].to_pylist() == [
        {"item": row["item"], "features": vectors.get(row["item_id"])} for row in rows
    ]
    assert metrics["items_with_features"] == 5
    assert metrics["items_without_features"] == len(rows) - 5
    with pytest.raises(UsageError, match="has a column colours beside item_id"):
        config = CONFIG.model_copy(update={"feature_column": "colours"})
        run_job(spark, source, Folder(tmp_path / "others"), config)


def test_a_folder_of_an_impossible_date_ends_no_night_and_is_told(spark, tmp_path, caplog):
    source = Folder(tmp_path / "raw")
    put_days(source, CLEAN)
    late = [event("new", "i1", at(day=1)), event("new", "i2", at(day=2)), event("new", "i3", None)]
    source.write("interactions/dt=2024-02-30/a.parquet", parquet(late[:1]))
    source.write("interactions/dt=2024-02-30/b.parquet", parquet(late[1:]))
    source.write("interactions/dt=0000-00-00/a.csv", b"")
    metrics, tables, _ = run_job(spark, source, Folder(tmp_path / "runs"), CONFIG)
    assert metrics["rows_read"] == len(CLEAN) + len(late)
    assert metrics["quarantined"] == {"event_time_missing": 1}
    assert "new" in {row["user_id"] for row in rows_of(tables, "histories/")}
    assert set(metrics["files_quarantined"]) == {"interactions/dt=0000-00-00/a.csv"}
    told = [line for line in caplog.messages if "the folder of no day that there is" in line]
    assert [line.partition(" ")[0] for line in told] == [
        "interactions/dt=0000-00-00",
        "interactions/dt=2024-02-30",
    ]


def test_folders_of_any_name_hold_input_and_runs(spark, tmp_path, planted):
    odd = tmp_path / "My Data" / "Jürgen [ab] {c} *? 50%41 #1" / "shop=a"
    source = Folder(odd / "raw")
    for blob in planted[0].list():
        source.write(blob.name, planted[0].read(blob.name))
    metrics, tables, _ = run_job(spark, source, Folder(odd / "runs"), CONFIG)
    assert metrics == planted[1]
    assert tables["vocabulary.parquet"].equals(planted[2]["vocabulary.parquet"])


def test_too_much_dirt_stops_with_the_largest_reasons(spark, tmp_path):
    rows = CLEAN[:10] + [event(None, "i", at())] * 3 + [event("u", "i", at(), price=-1.0)]
    kind, message = failure(spark, tmp_path, rows)
    assert kind is PipelineError
    assert "28.6% of 14 rows are quarantined and the limit is 5.0%" in message
    assert "(user_id_missing 3, price_negative 1)" in message
    place = message.split("see ")[1].split(",")[0]
    assert list(Folder(tmp_path / "runs").list()), place
    assert place.startswith(Folder(tmp_path / "runs").url)
    assert place.endswith("/quarantine")


def test_no_readable_file(spark, tmp_path):
    kind, message = failure(spark, tmp_path, [], files=BAD_FILES)
    assert kind is PipelineError
    assert message.startswith("None of the files of interactions in file://")
    assert "3 in all; the first, interactions/dt=2024-03-02/truncated.parquet: Parquet" in message


def test_files_without_rows(spark, tmp_path):
    header = {"interactions/dt=2024-03-02/a.csv": b"user_id,item_id,event_time\n"}
    assert "hold no rows" in failure(spark, tmp_path, [], files=header)[1]


def test_nothing_left_after_the_rules(spark, tmp_path):
    _, message = failure(spark, tmp_path, CLEAN[:5], drop={"all_of_it": "true"})
    assert "Nothing is left of 5 rows" in message
    assert "'all_of_it': 5" in message


def test_nothing_left_to_train_on(spark, tmp_path):
    rows = [event("u", f"i{n}", at(n, day=30)) for n in range(5)]
    assert "No interaction is left to train on" in failure(spark, tmp_path, rows)[1]


def test_a_bad_drop_rule(spark, tmp_path):
    kind, message = failure(spark, tmp_path, CLEAN[:5], drop={"codes": "stock_code = 'M'"})
    assert kind is UsageError
    assert message.startswith("The drop rule codes is not a Spark SQL condition")


def test_a_drop_rule_that_fails_on_a_row_is_one_sentence(spark, tmp_path):
    rows = CLEAN[:5]
    _, message = failure(spark, tmp_path, rows, drop={"broken": "cast(item_id AS int) = 1"})
    assert "CAST_INVALID_INPUT" in message


def test_an_input_that_changes_under_the_run_is_told_as_that(spark, tmp_path, monkeypatch):
    source = Folder(tmp_path / "raw")
    put_days(source, CLEAN[:5])

    def listing(storage, as_of):
        listed = list(source.list())
        source.write(listed[0].name, parquet(CLEAN[:9]))
        return listed

    monkeypatch.setattr("tests.pipelines.preprocess.support.raw_listing", listing)
    with pytest.raises(
        PipelineError, match=r"part-0.parquet in file://.* changed while it was read"
    ):
        run_job(spark, source, Folder(tmp_path / "runs"), CONFIG)
