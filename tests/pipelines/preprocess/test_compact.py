"""Days kept from earlier runs: a night reads what is new, and equals one that reads all."""

from __future__ import annotations

import os
from collections import Counter
from datetime import date, timedelta

import pytest

from pipelines.preprocess.config import PreprocessConfig
from pipelines.preprocess.job import preprocess
from pipelines.preprocess.source import raw_listing
from pipelines.runs import Attempt, Run, RunRecord
from pipelines.storage import Folder
from tests.pipelines.preprocess.support import at, event, parquet

CONFIG = PreprocessConfig(
    test_days=3, validation_share=0.2, window_days=10, maximum_quarantined_share=0.2
)
LAST = date(2024, 3, 12)


def rows_of_day(day):
    """Some good rows, one for quarantine, a return now and then, one delivered late."""
    rows = [
        event(f"u{user}", f"i{(user * day) % 9}", at(60 * user, day=day), price=float(day))
        for user in range(day % 3, 12)
    ]
    rows.append(event(None, "i1", at(day=day)))
    if day % 4 == 0:
        rows.append(event("u5", f"i{(5 * (day - 1)) % 9}", at(5, day=day), event_type="return"))
    if day > 1:
        rows.append(event("late", f"i{day % 9}", at(7, day=day - 1)))
    return rows


@pytest.fixture
def shop(tmp_path):
    return put_shop(Folder(tmp_path / "raw"))


@pytest.fixture
def night(spark, shop):
    """A run over the days up to one, as (metrics, bytes of its outputs, quarantined rows)."""

    def run(runs, as_of, config=CONFIG, source=shop):
        listing = raw_listing(source, as_of, config.first_day(as_of))
        record = RunRecord.identify(
            as_of=as_of,
            source=source.url,
            listing=listing,
            configuration={"seed": 1, **config.model_dump(mode="json")},
        )
        attempt = Attempt(Run.start(runs, record), "preprocess")
        metrics = preprocess(spark, source.url, listing, as_of, config, 1, attempt)
        outputs = {
            output.name: runs.read(f"{record.run_id}/{output.path}")
            for output in attempt.outputs
            if not output.name.startswith(("quarantine/", "report."))
        }
        return metrics, outputs

    return run


def put_shop(source):
    for day in range(1, LAST.day + 1):
        source.write(f"interactions/dt=2024-03-{day:02d}/a.parquet", parquet(rows_of_day(day)))
    return source


def spoil(shop, days):
    """Make files unreadable without anybody noticing: same size, same time of change."""
    for day in days:
        path = shop.root / f"interactions/dt=2024-03-{day:02d}/a.parquet"
        stat = path.stat()
        path.write_bytes(bytes(stat.st_size))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_night_reads_the_new_day_alone_and_equals_a_rebuild(night, shop, tmp_path):
    runs = Folder(tmp_path / "runs")
    before = night(runs, LAST - timedelta(days=1))
    rebuilt = night(Folder(tmp_path / "other"), LAST)
    spoil(shop, range(1, LAST.day))
    usual = night(runs, LAST)
    assert usual == rebuilt
    assert usual != before
    metrics, _ = usual
    # The window's ten days, one bad row each; a late event of its first day lies before it.
    assert metrics["quarantined"] == {"user_id_missing": 10}
    assert metrics["dropped"]["outside_window"] == 1
    assert metrics["dropped"]["return"] == 3
    assert not metrics["files_quarantined"]


def test_a_file_that_comes_late_or_again_makes_its_day_be_read_again(night, shop, tmp_path):
    runs, day = Folder(tmp_path / "runs"), LAST.day - 2
    first, _ = night(runs, LAST)
    shop.write(
        f"interactions/dt=2024-03-{day}/b.parquet", parquet([event("new", "i1", at(day=day))])
    )
    shop.write(
        f"interactions/dt=2024-03-{day - 1:02d}/a.parquet", parquet(rows_of_day(day - 1)[:-2])
    )
    spoil(shop, [n for n in range(1, LAST.day + 1) if n not in {day, day - 1}])
    second, _ = night(runs, LAST)
    assert second["rows_read"] == first["rows_read"] + 1 - 2
    kept = [blob.name for blob in runs.list("compacted/") if blob.name.endswith("manifest.json")]
    days = Counter(name.split("/")[3] for name in kept)
    assert set(days.values()) == {1}, "what nobody reads any more is removed"


def test_inputs_that_share_a_storage_of_runs_leave_each_other_s_days(night, shop, tmp_path):
    runs, other = Folder(tmp_path / "runs"), put_shop(Folder(tmp_path / "other"))
    first = night(runs, LAST)
    kept = list(runs.list("compacted/"))
    extra = parquet([event("theirs", "i1", at(day=LAST.day))])
    other.write(f"interactions/dt={LAST}/b.parquet", extra)
    theirs, _ = night(runs, LAST, source=other)
    assert theirs["rows_read"] == first[0]["rows_read"] + 1
    assert set(kept) < set(runs.list("compacted/"))
    spoil(shop, range(1, LAST.day + 1))
    assert night(runs, LAST) == first


def test_rows_ahead_of_their_day_are_judged_by_each_run(night, shop, tmp_path):
    runs, today = Folder(tmp_path / "runs"), LAST - timedelta(days=1)
    tomorrow = [event("ahead", "i1", at(day=LAST.day)), event("ahead", "i2", at(1, day=LAST.day))]
    shop.write(f"interactions/dt={today}/early.parquet", parquet(tomorrow))
    metrics, _ = night(runs, today)
    assert metrics["quarantined"] == {"event_time_after_as_of": 2, "user_id_missing": 10}
    later, _ = night(runs, LAST)
    assert later["quarantined"] == {"user_id_missing": 10}
    assert later["users"] == metrics["users"] + 1


def test_other_rules_read_the_days_anew_and_a_damaged_manifest_its_own(night, shop, tmp_path):
    runs = Folder(tmp_path / "runs")
    metrics, outputs = night(runs, LAST)
    [damaged] = [
        b.name for b in runs.list("compacted/") if f"{LAST}/" in b.name and "manif" in b.name
    ]
    runs.write(damaged, b"{")
    assert night(runs, LAST) == (metrics, outputs)
    strict = CONFIG.model_copy(update={"drop": {"dear": "price > 11"}})
    dropped = night(runs, LAST, strict)[0]["dropped"]
    assert dropped["dear"] == len([r for r in rows_of_day(LAST.day) if r.get("price")])
