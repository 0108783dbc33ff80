"""Duplicates, returns and repeated events against plain Python."""

from __future__ import annotations

from collections import Counter, defaultdict

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.pipelines.preprocess.support import at, event, raw_frame, settle_all

EVENTS = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.sampled_from(["purchase", "purchase", "return", "view"]),
        st.sampled_from([None, 1.0, 2.0, 3.0, 0.5]),
        st.sampled_from([None, 5.0]),
    ),
    max_size=9,
)


def oracle(events):
    """Counts by rule, and the (time, event type) that stay: a stack of what is still held."""
    outcome = Counter()
    distinct = list(dict.fromkeys(events))
    outcome["duplicate"] = len(events) - len(distinct)
    stack, gone = [], 0
    for time, kind, quantity, price in sorted(distinct, key=lambda e: (e[0], e[1] == "return")):
        pieces = 1.0 if quantity is None else quantity
        if kind == "purchase":
            stack.append([(time, kind, quantity, price), pieces])
        elif kind == "return":
            outcome["return"] += 1
            while pieces and stack:
                taken = min(pieces, stack[-1][1])
                pieces -= taken
                stack[-1][1] -= taken
                if not stack[-1][1]:
                    stack.pop()
                    gone += 1
    outcome["cancelled_purchase"] = gone
    left = [e[:2] for e, _ in stack] + [e[:2] for e in distinct if e[1] == "view"]
    outcome["repeated_event"] = len(left) - len(set(left))
    return {rule: n for rule, n in outcome.items() if n}, set(left)


def is_ambiguous(events):
    """Whether purchases of one moment differ in quantity: which is last of them is a convention."""
    by_time = defaultdict(set)
    for time, kind, quantity, _ in events:
        if kind == "purchase":
            by_time[time].add(1.0 if quantity is None else quantity)
    return any(len(quantities) > 1 for quantities in by_time.values())


def test_random_sequences_settle_as_a_stack_does(spark):
    sequences = []

    @settings(max_examples=400, database=None, phases=[Phase.generate])
    @given(EVENTS.filter(lambda events: not is_ambiguous(events)))
    def gather(events):
        sequences.append(events)

    gather()
    rows = [
        event(str(number), "i", at(time), event_type=kind, quantity=quantity, price=price)
        for number, events in enumerate(sequences)
        for time, kind, quantity, price in events
    ]
    outcome, left = defaultdict(Counter), defaultdict(list)
    for row in (
        settle_all(raw_frame(spark, rows))
        .selectExpr("user_id", "event_type", "unix_seconds(event_time) t", "dropped_by")
        .collect()
    ):
        if row.dropped_by:
            outcome[row.user_id][row.dropped_by] += 1
        else:
            left[row.user_id].append((row.t - int(at().timestamp()), row.event_type))
    returned = 0
    for number, events in enumerate(sequences):
        counts, remaining = oracle(events)
        assert (events, outcome[str(number)]) == (events, counts)
        assert sorted(left[str(number)]) == sorted(remaining)
        returned += counts.get("cancelled_purchase", 0)
    assert returned > 100


def test_rules_by_example(spark):
    cases = {
        "returned whole": [(0, "purchase", 2.0), (5, "return", 2.0)],
        "returned in part": [(0, "purchase", 2.0), (5, "return", 1.0)],
        "returned in two parts": [(0, "purchase", 2.0), (5, "return", 1.0), (6, "return", 1.0)],
        "bought again after": [(0, "purchase", 1.0), (5, "return", 1.0), (9, "purchase", 1.0)],
        "returned in the moment of purchase": [(5, "return", None), (5, "purchase", None)],
        "returned what was bought before the data": [(0, "return", 9.0), (5, "purchase", 1.0)],
        "repeated with another quantity": [(0, "purchase", 1.0), (0, "purchase", 2.0)],
        "repeated, one returned": [(0, "purchase", 1.0), (0, "purchase", 2.0), (1, "return", 1.0)],
        "signed return": [(0, "purchase", 2.0), (5, "return", -2.0)],
    }
    rows = [
        event(name, "i", at(time), event_type=kind, quantity=quantity)
        for name, events in cases.items()
        for time, kind, quantity in events
    ]
    kept = (
        settle_all(raw_frame(spark, rows))
        .where("dropped_by IS NULL")
        .selectExpr(
            "user_id", "unix_seconds(event_time) - unix_seconds(to_timestamp('2024-03-01')) AS t"
        )
    )
    left = defaultdict(list)
    for row in kept.collect():
        left[row.user_id].append(row.t)
    assert dict(left) == {
        "returned in part": [0],
        "bought again after": [9],
        "returned what was bought before the data": [5],
        "repeated with another quantity": [0],
        "repeated, one returned": [0],
    }


def test_items_and_users_do_not_cancel_each_other(spark):
    rows = [
        event("a", "i", at()),
        event("a", "j", at(1), event_type="return"),
        event("b", "i", at(2), event_type="return"),
    ]
    counts = Counter(row.dropped_by for row in settle_all(raw_frame(spark, rows)).collect())
    assert counts == {None: 1, "return": 2}


def test_a_missing_value_and_a_given_one_are_not_duplicates(spark):
    rows = [
        event("a", "i", at(), quantity=5.0),
        event("a", "i", at(), price=5.0),
        event("a", "i", at(), price=5.0, source_file="another"),
    ]
    counts = Counter(row.dropped_by for row in settle_all(raw_frame(spark, rows)).collect())
    assert counts == {None: 1, "repeated_event": 1, "duplicate": 1}
