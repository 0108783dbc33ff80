"""No label's future in its history, each label in one split: many random users, one job a split."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import timedelta

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hyperrec_core.histories import EVENT_TYPES
from pipelines.preprocess.config import PreprocessConfig
from pipelines.preprocess.histories import SPLITS, histories
from pipelines.preprocess.order import with_order
from pipelines.preprocess.splits import assign_splits, below_minimum
from pipelines.preprocess.vocabulary import vocabulary
from tests.pipelines.preprocess.support import AS_OF, SETTLED, at

TEST_DAYS = 7
TEST_START = at(day=31 - TEST_DAYS + 1)
CAP = 8

# A user's events: (hour of March, item, type, dropped before). Few hours, so that times tie.
USERS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 2, 3, 24 * 20, 24 * 24 - 1, 24 * 24, 24 * 28, 24 * 28 + 1]),
        st.integers(0, 9),
        st.sampled_from(["purchase", "purchase", "purchase", "view"]),
        st.sampled_from([None, None, None, None, "return"]),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda e: e[:3],
)


@pytest.fixture(scope="module")
def users():
    gathered = []

    @settings(max_examples=250, database=None, phases=[Phase.generate])
    @given(USERS)
    def gather(events):
        gathered.append(events)

    gather()
    return {f"u{number}": events for number, events in enumerate(gathered)}


@pytest.fixture(scope="module")
def settled(spark, users):
    rows = [
        (user, f"i{item}", kind, at(hour * 3600), dropped)
        for user, events in users.items()
        for hour, item, kind, dropped in events
    ]
    return spark.createDataFrame(rows, SETTLED).cache()


@pytest.fixture(scope="module", params=["last_week", "leave_last_out"])
def built(request, spark, settled):
    config = PreprocessConfig(
        split=request.param, test_days=TEST_DAYS, validation_share=0.3, maximum_history=CAP
    )
    assigned = assigned_splits(settled, config, seed=5).cache()
    words = vocabulary(assigned, None)
    names = {row.item: row.item_id for row in words.collect()}
    found = histories(assigned, words).collect()
    rows = {split: {row.user_id: row[split] for row in found if row[split]} for split in SPLITS}
    return request.param, assigned.collect(), names, rows


def assigned_splits(settled, config, seed):
    return assign_splits(with_order(settled, seed), config, AS_OF, seed)


def labels(row):
    return [p for p, is_label in enumerate(row.is_label) if is_label]


def seconds(hour):
    return int(at(hour * 3600).timestamp())


def test_every_label_has_a_history_and_only_a_strictly_earlier_one(built, users):
    _, _, names, rows = built
    checked = 0
    for split in SPLITS:
        for user, row in rows[split].items():
            truth = defaultdict(set)
            for hour, item, kind, _ in users[user]:
                truth[seconds(hour)].add((f"i{item}", EVENT_TYPES.index(kind)))
            assert row.times == sorted(row.times)
            assert len(row.items) == len(row.times) == len(row.is_label) == len(row.events)
            for item, time, kind in zip(row.items, row.times, row.events, strict=True):
                assert (names[item], kind) in truth[time]
            for p in labels(row):
                history = row.items[: row.times.index(row.times[p])]
                assert history
                assert all(time < row.times[p] for time in row.times[: len(history)])
                checked += 1
    assert checked > 300


def test_an_evaluated_label_has_all_of_its_history(built):
    _, assigned, names, rows = built
    known = set(names.values())
    for split in ("validation", "test"):
        for user, row in rows[split].items():
            kept = [r for r in assigned if r.user_id == user and r.dropped_by is None]
            for p in labels(row):
                history = [names[item] for item in row.items[: row.times.index(row.times[p])]]
                earlier = [r.item_id for r in kept if r.seconds < row.times[p]]
                assert Counter(history) == Counter(item for item in earlier if item in known)


def test_first_events_are_context_and_never_held_out(built):
    split, assigned, _, _ = built
    first = {}
    for row in assigned:
        if row.dropped_by is None:
            first[row.user_id] = min(row.seconds, first.get(row.user_id, row.seconds))
    firsts = [
        row for row in assigned if row.dropped_by is None and row.seconds == first[row.user_id]
    ]
    assert all(row.label is None for row in firsts)
    start = int(TEST_START.timestamp())
    assert all(row.in_train for row in firsts if split == "leave_last_out" or row.seconds < start)


def test_no_label_is_in_two_splits_and_none_is_a_dropped_row_or_a_view(built, users):
    _, _, names, rows = built
    seen = Counter(
        (user, row.times[p], names[row.items[p]])
        for split in SPLITS
        for user, row in rows[split].items()
        for p in labels(row)
    )
    assert set(seen.values()) == {1}
    bought = {
        (user, seconds(hour), f"i{item}")
        for user, events in users.items()
        for hour, item, kind, dropped in events
        if kind == "purchase" and dropped is None
    }
    assert set(seen) <= bought


def test_what_is_evaluated_is_in_no_train_row(built):
    _, assigned, names, rows = built
    assert {row.label for row in assigned if row.in_train} <= {"train", None}
    trained = Counter(
        (user, time, names[item])
        for user, row in rows["train"].items()
        for item, time in zip(row.items, row.times, strict=True)
    )
    positions = Counter((r.user_id, r.seconds, r.item_id) for r in assigned if r.in_train)
    assert trained == positions


def test_last_week_is_by_time_and_leave_last_out_by_order(built, users):
    split, _, _, rows = built
    if split == "last_week":
        start = int(TEST_START.timestamp())
        for name in SPLITS:
            times = [row.times[p] for row in rows[name].values() for p in labels(row)]
            assert times
            assert all((time >= start) == (name == "test") for time in times)
            if name == "train":
                assert all(time < start for row in rows[name].values() for time in row.times)
        return
    for user, row in rows["test"].items():
        purchases = [
            (seconds(hour), f"i{item}")
            for hour, item, kind, dropped in users[user]
            if kind == "purchase" and dropped is None
        ]
        if not labels(row):
            continue  # its item is in no train row
        [p] = labels(row)
        assert len(purchases) >= 3
        assert row.times[p] == max(time for time, _ in purchases)
        if user in rows["validation"] and labels(rows["validation"][user]):
            [q] = labels(rows["validation"][user])
            assert rows["validation"][user].times[q] <= row.times[p]
            later = rows["train"][user].times if user in rows["train"] else []
            assert all(time <= rows["validation"][user].times[q] for time in later)


def test_users_who_cannot_be_held_out_are_trained_on_alone(built, users):
    split, assigned, _, rows = built
    if split == "last_week":
        assert not any(row.train_only for row in assigned)
        return
    alone = {row.user_id for row in assigned if row.train_only and row.dropped_by is None}
    assert alone
    assert not alone & {user for name in ("validation", "test") for user in rows[name]}
    for user, events in users.items():
        kept = sorted((hour, kind) for hour, _, kind, dropped in events if dropped is None)[-CAP:]
        times = [hour for hour, kind in kept if kind == "purchase"]
        if len(times) < 3 or times[-2] == kept[0][0]:
            assert user in alone or not kept


def test_the_cap_keeps_the_newest_and_dropped_rows_pass_through(built, users):
    _, assigned, _, _ = built
    by_user = defaultdict(list)
    for row in assigned:
        by_user[row.user_id].append(row)
    capped = 0
    for user, events in users.items():
        given = Counter(dropped for *_, dropped in events)
        found = Counter(row.dropped_by for row in by_user[user])
        assert found["return"] == given["return"]
        assert found["history_cap"] == max(0, given[None] - CAP)
        kept = [row.seconds for row in by_user[user] if row.dropped_by is None]
        lost = [row.seconds for row in by_user[user] if row.dropped_by == "history_cap"]
        assert not lost or max(lost) <= min(kept)
        assert sum(row.is_newest for row in by_user[user]) == bool(kept)
        capped += len(lost)
    assert capped


def test_the_order_of_rows_and_of_partitions_changes_nothing(spark, settled, built):
    split, assigned, _, _ = built
    config = PreprocessConfig(
        split=split, test_days=TEST_DAYS, validation_share=0.3, maximum_history=CAP
    )
    shuffled = settled.orderBy("event_type", "item_id").repartition(5)
    assert sorted(assigned_splits(shuffled, config, seed=5).collect(), key=str) == sorted(
        assigned, key=str
    )


def test_the_seed_moves_the_validation_draw(settled):
    config = PreprocessConfig(validation_share=0.3)

    def drawn(seed):
        rows = assigned_splits(settled, config, seed).where("label = 'validation'").collect()
        return {(row.user_id, row.item_id, row.seconds) for row in rows}

    assert drawn(1) == drawn(1) != drawn(2)


def test_validation_is_about_its_share_and_even_in_time(spark):
    rows = [
        (f"u{user}", f"i{step}", "purchase", at(day=1) + timedelta(hours=step), None)
        for user in range(60)
        for step in range(101)
    ]
    frame = spark.createDataFrame(rows, SETTLED)
    assigned = assigned_splits(frame, PreprocessConfig(validation_share=0.1), seed=3)
    found = [row.newer for row in assigned.where("label = 'validation'").collect()]
    # 6,000 draws with probability 0.1: five standard deviations are 116.
    assert abs(len(found) - 600) < 116
    assert abs(sum(newer < 50 for newer in found) - 300) < 90


def test_ties_in_time_are_not_ordered_by_item(spark):
    rows = [
        (f"u{user}", f"i{item}", "purchase", at(0 if item == 0 else 60), None)
        for user in range(200)
        for item in range(5)
    ]
    config = PreprocessConfig(split="leave_last_out")
    assigned = assigned_splits(spark.createDataFrame(rows, SETTLED), config, seed=1)
    last = Counter(row.item_id for row in assigned.where("label = 'test'").collect())
    assert set(last) == {"i1", "i2", "i3", "i4"}
    assert max(last.values()) < 80


def test_minimum_counts_are_judged_once_on_the_same_rows(spark):
    rows = [
        ("u1", "i1", "purchase", at(1), None),
        ("u1", "i2", "purchase", at(2), None),
        ("u2", "i1", "purchase", at(3), None),
        ("u2", "i1", "purchase", at(4), "duplicate"),
        ("u3", "i2", "purchase", at(5), "return"),
        ("u3", "i1", "purchase", at(6), None),
        ("u3", "i3", "purchase", at(7), None),
    ]
    config = PreprocessConfig(minimum_user_interactions=2, minimum_item_interactions=2)
    marked = below_minimum(spark.createDataFrame(rows, SETTLED), config)
    found = {(row.user_id, row.item_id, row.dropped_by) for row in marked.collect()}
    assert found == {
        ("u1", "i1", None),
        ("u1", "i2", "item_below_minimum"),
        ("u2", "i1", "user_below_minimum"),
        ("u2", "i1", "duplicate"),
        ("u3", "i2", "return"),
        ("u3", "i1", None),
        ("u3", "i3", "item_below_minimum"),
    }
