"""Bots are found by day and in all, and a file that comes twice makes nobody one."""

from __future__ import annotations

from collections import Counter

from pipelines.preprocess.bots import bots, mark_bots
from pipelines.preprocess.config import PreprocessConfig
from tests.pipelines.preprocess.support import SETTLED, at

CONFIG = PreprocessConfig(bot_events_per_day=3)


def frame(spark, *rows):
    """Rows of (user, second, day, dropped_by); every one of another item."""
    full = [
        (user, f"i{number}", "view", at(second, day=day), dropped_by)
        for number, (user, second, day, dropped_by) in enumerate(rows)
    ]
    return spark.createDataFrame(full, SETTLED)


def marked(frame, config=CONFIG):
    return Counter((row.user_id, row.dropped_by) for row in mark_bots(frame, config).collect())


def test_a_user_over_the_limit_of_a_day_is_left_out_with_all_events(spark):
    rows = frame(
        spark,
        *[("bot", second, 2, None) for second in range(4)],
        *[("bot", 0, day, None) for day in (1, 5, 9)],
        *[("busy", second, 2, None) for second in range(3)],
        # Four within a day's time, but of two days.
        *[("late", 86_398 + second, 2, None) for second in range(4)],
        *[("often", 0, day, None) for day in range(1, 20)],
    )
    assert marked(rows) == {
        ("bot", "bot"): 7,
        ("busy", None): 3,
        ("late", None): 4,
        ("often", None): 19,
    }
    found = bots(mark_bots(rows, CONFIG)).collect()
    assert [tuple(row) for row in found] == [("bot", 7, 4)]


def test_of_several_users_with_many_events_only_the_bots_are_found(spark):
    rows = frame(
        spark,
        *[("a", 0, 1 + number % 5, None) for number in range(15)],
        *[("b", 0, 1 + number % 5, None) for number in range(16)],
    )
    assert marked(rows) == {("a", None): 15, ("b", "bot"): 16}
    assert [tuple(row) for row in bots(mark_bots(rows, CONFIG)).collect()] == [("b", 16, 4)]


def test_a_file_that_comes_twice_makes_nobody_a_bot(spark):
    rows = frame(
        spark,
        *[("twice", second, 1, None) for second in range(3)],
        *[("twice", second, 1, "duplicate") for second in range(3)],
        *[("before", second, 1, "outside_window") for second in range(9)],
        *[("bot", second, 1, None) for second in range(3)],
        *[("bot", 5, 1, mark) for mark in ("duplicate", "return", "outside_window")],
    )
    assert marked(rows) == {
        ("twice", None): 3,
        ("twice", "duplicate"): 3,
        ("before", "outside_window"): 9,
        ("bot", "bot"): 4,
        ("bot", "duplicate"): 1,
        ("bot", "outside_window"): 1,
    }
    assert [tuple(row) for row in bots(mark_bots(rows, CONFIG)).collect()] == [("bot", 4, 4)]


def test_a_limit_of_all_events_alone_and_none_at_all(spark):
    rows = frame(spark, *[("u", 0, day, None) for day in range(1, 8)], ("v", 0, 1, None))
    in_all = PreprocessConfig(bot_events_per_day=0, bot_events=6)
    assert marked(rows, in_all) == {("u", "bot"): 7, ("v", None): 1}
    both = PreprocessConfig(bot_events_per_day=1, bot_events=7)
    assert marked(rows, both) == {("u", None): 7, ("v", None): 1}
    none = PreprocessConfig(bot_events_per_day=0)
    assert marked(rows, none) == {("u", None): 7, ("v", None): 1}


def test_columns_stay_and_nothing_is_shuffled_again(spark):
    rows = frame(spark, *[("u", second, 1, None) for second in range(5)])
    found = mark_bots(rows.repartition(2, "user_id"), CONFIG)
    assert found.columns == rows.columns
    plan = found._jdf.queryExecution().executedPlan().toString()
    assert plan.count("Exchange hashpartitioning") == 1
    listed = bots(found)._jdf.queryExecution().executedPlan().toString()
    assert listed.count("Exchange hashpartitioning") == 1
