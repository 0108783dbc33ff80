"""Every rule finds its dirt under its own name, and nothing else does."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pipelines.errors import UsageError
from pipelines.preprocess.config import PreprocessConfig
from pipelines.preprocess.quality import (
    after,
    check_drop_rules,
    is_item_id,
    judge,
)
from pipelines.preprocess.rules import QUARANTINE_RULES
from tests.pipelines.preprocess.support import AS_OF, at, event, raw_frame

LAST_MOMENT = datetime(2024, 3, 31, 23, 59, 59, 999_999, tzinfo=UTC)

GOOD = [
    event("u", "i", at()),
    event("u", "i", LAST_MOMENT),
    event("u", "i", datetime(2000, 1, 1, tzinfo=UTC)),
    event("ü" * 255, "i" * 255, at(), quantity=0.5, price=0.0),
    event("u", "i", at(), event_type="return", quantity=-2.0),
    event("u", "i", at(), event_type="view", quantity=0.0),
    event("u", "i", at(), event_type="rating", rating=1.0),
    event("naïve 日本", "i-1/2 (x) 🛒", at(), quantity=1e300, price=1e300, rating=-5.0),
]

NAN, INF = float("nan"), float("inf")

DIRT = {
    "row_unreadable": [event(None, None, None, row_error="not a JSON object: x")],
    "user_id_missing": [
        event(None, "i", at()),
        event(" ", "i", at()),
        event("\t\u3000\x85 ", "i", at()),
    ],
    "item_id_missing": [event("u", None, at()), event("u", "", at())],
    "user_id_too_long": [event("u" * 256, "i", at())],
    "item_id_too_long": [event("u", "ü" * 256, at())],
    "user_id_unprintable": [event("u\t", "i", at()), event("\x00", "i", at())],
    "item_id_unprintable": [event("u", "i\nj", at()), event("u", "i\x9f", at())],
    "event_type_unknown": [event("u", "i", at(), event_type="buy")],
    "event_time_missing": [event("u", "i", None)],
    "event_time_before_2000": [event("u", "i", datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC))],
    "event_time_after_as_of": [event("u", "i", datetime(2024, 4, 1, tzinfo=UTC))],
    "quantity_not_positive": [
        event("u", "i", at(), quantity=0.0),
        event("u", "i", at(), quantity=-1.0),
    ],
    "quantity_not_finite": [
        event("u", "i", at(), quantity=NAN),
        event("u", "i", at(), quantity=-INF),
        event("u", "i", at(), event_type="return", quantity=INF),
    ],
    "price_negative": [event("u", "i", at(), price=-0.01)],
    "price_not_finite": [event("u", "i", at(), price=value) for value in (NAN, INF, -INF)],
    "rating_not_finite": [event("u", "i", at(), rating=value) for value in (NAN, INF, -INF)],
}


def marks(frame, drop=None):
    judged = judge(frame, AS_OF, drop or {})
    return [
        (row.dropped_by, row.reasons) for row in judged.select("dropped_by", "reasons").collect()
    ]


def test_good_rows_have_no_reason(spark):
    assert marks(raw_frame(spark, GOOD)) == [(None, [])] * len(GOOD)


def test_every_rule_finds_its_own_dirt(spark):
    assert tuple(DIRT) == QUARANTINE_RULES
    planted = [(rule, row) for rule, rows in DIRT.items() for row in rows]
    frame = raw_frame(spark, [row for _, row in planted])
    assert marks(frame) == [(None, [rule]) for rule, _ in planted]


def test_without_a_last_day_events_may_be_of_any(spark):
    late = DIRT["event_time_after_as_of"]
    judged = judge(raw_frame(spark, [*late, *DIRT["event_time_missing"]]), None, {})
    marked = judged.select("reasons", after(AS_OF)).collect()
    assert [tuple(row) for row in marked] == [([], True), (["event_time_missing"], None)]
    last = raw_frame(spark, [event("u", "i", LAST_MOMENT)])
    assert [row[0] for row in last.select(after(AS_OF)).collect()] == [False]


def test_a_file_has_its_rule_and_no_other(spark):
    bad = event(None, None, None, file_rule="file_empty", file_error="it holds nothing")
    assert marks(raw_frame(spark, [bad]), {"everything": "true"}) == [(None, ["file_empty"])]


def test_the_items_of_a_catalogue_keep_the_same_rules(spark):
    ids = ["i", "ü" * 255, None, " \t", "i" * 256, "i\n"]
    frame = spark.createDataFrame([(value,) for value in ids], "item_id string")
    assert [row[0] for row in frame.select(is_item_id("item_id")).collect()] == [
        True,
        True,
        *[False] * 4,
    ]


def test_a_row_carries_every_rule_it_breaks_in_order(spark):
    row = event("", "i" * 300, datetime(2030, 1, 1, tzinfo=UTC), quantity=-1.0, price=-1.0)
    assert marks(raw_frame(spark, [row])) == [
        (
            None,
            [
                "user_id_missing",
                "item_id_too_long",
                "event_time_after_as_of",
                "quantity_not_positive",
                "price_negative",
            ],
        )
    ]


def test_the_first_drop_rule_wins_over_the_others_and_over_quarantine(spark):
    drop = {"postage": "item_id = 'POST'", "cheap": "price < 1", "anonymous": "user_id IS NULL"}
    rows = [
        event(None, "POST", at(), price=0.5),
        event(None, "i", at(), price=0.5),
        event(None, "i", at()),
        event("u", "i", at()),
        event(None, None, None, row_error="broken"),
    ]
    assert marks(raw_frame(spark, rows), drop) == [
        ("postage", []),
        ("cheap", []),
        ("anonymous", []),
        (None, []),
        (None, ["row_unreadable"]),
    ]


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        (
            "invoice = 'C'",
            "postage is not a Spark SQL condition over the columns user_id, .*invoice",
        ),
        ("item_id =", "postage is not a Spark SQL condition"),
        ("item_id", "gives string and not true or false"),
        ("sum(price) > 1", "postage"),
    ],
)
def test_a_bad_drop_rule_is_refused_before_anything_is_read(spark, expression, complaint):
    with pytest.raises(UsageError, match=complaint) as caught:
        check_drop_rules(raw_frame(spark, []), {"postage": expression})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["Postage", "duplicate", "bot", "user_id_missing", "file_empty", ""]
)
def test_a_drop_rule_needs_a_name_of_its_own(name):
    with pytest.raises(ValueError, match="drop"):
        PreprocessConfig(drop={name: "true"})
