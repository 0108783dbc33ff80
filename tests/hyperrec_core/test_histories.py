import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperrec_core.histories import Histories, HistoriesError


def table(rows: list[tuple[str, list[int], list[int], list[bool]]]) -> pa.Table:
    users, items, times, labels = zip(*rows, strict=True) if rows else ([], [], [], [])
    return pa.table(
        {
            "user_id": pa.array(users, pa.string()),
            "items": pa.array(items, pa.list_(pa.int32())),
            "times": pa.array(times, pa.list_(pa.int64())),
            "is_label": pa.array(labels, pa.list_(pa.bool_())),
        }
    )


@st.composite
def histories_rows(draw):
    rows = []
    for user in range(draw(st.integers(1, 6))):
        length = draw(st.integers(1, 12))
        times = sorted(draw(st.lists(st.integers(0, 6), min_size=length, max_size=length)))
        items = draw(st.lists(st.integers(0, 9), min_size=length, max_size=length))
        wanted = draw(st.lists(st.booleans(), min_size=length, max_size=length))
        labels = [w and t > times[0] for w, t in zip(wanted, times, strict=True)]
        rows.append((f"u{user}", items, times, labels))
    return rows


@given(histories_rows(), st.integers(1, 5), st.randoms())
def test_a_batch_holds_exactly_the_strictly_earlier_items_newest_first(rows, lags, random):
    expected = []
    for _, items, times, labels in rows:
        for place, label in enumerate(labels):
            if label:
                earlier = [i for i, t in zip(items, times, strict=True) if t < times[place]]
                expected.append((items[place], earlier[::-1][:lags]))
    shuffled = rows.copy()
    random.shuffle(shuffled)
    histories = Histories.from_tables([table(shuffled[:1]), table(shuffled[1:])], items=10)
    assert len(histories) == len(expected)
    if not expected:
        return
    batch = histories.batch(np.arange(len(histories)), lags=lags)
    found = []
    ends = [*batch.offsets.tolist()[1:], len(batch.index)]
    contexts = [
        batch.index.tolist()[a:b] for a, b in zip(batch.offsets.tolist(), ends, strict=True)
    ]
    for label, context in zip(batch.labels.tolist(), batch.context.tolist(), strict=True):
        found.append((label, contexts[context]))
    assert found == expected
    for start, end in zip(batch.offsets.tolist(), ends, strict=True):
        assert batch.lags.tolist()[start:end] == list(range(end - start))


def test_positions_of_events_that_no_label_has_are_not_learned():
    purchase, view = 0, 1
    rows = table(
        [
            ("a", [4, 3, 2, 1], [1, 2, 3, 4], [False, False, False, True]),
            ("b", [5, 6], [1, 2], [False] * 2),
        ]
    )
    events = pa.array([[view, purchase, view, purchase], [purchase, view]], pa.list_(pa.int8()))
    typed = Histories.from_tables([rows.append_column("events", events)], items=10)
    assert typed.every_position().labels.tolist() == [3, 1, 5]
    assert typed.every_position().rows.tolist() == [0, 0, 1]
    untyped = Histories.from_tables([rows], items=10)
    assert untyped.every_position().labels.tolist() == [4, 3, 2, 1, 5, 6]


@pytest.mark.parametrize(
    ("name", "column", "told"),
    [
        ("items", pa.array([3]), "items of the histories are no int32: the column holds int64"),
        ("is_label", pa.array([True]), "is_label of the histories are no bool: the column holds"),
    ],
)
def test_a_column_without_lists_is_told(name, column, told):
    whole = table([("u", [1, 2], [1, 2], [False, True])])
    broken = whole.set_column(whole.schema.get_field_index(name), name, column)
    with pytest.raises(HistoriesError, match=told):
        Histories.from_tables([broken], items=10)


def test_items_are_counted_in_parts(monkeypatch):
    monkeypatch.setattr("hyperrec_core.histories._COUNTED_AT_ONCE", 3)
    found = Histories.from_tables(
        [table([("u", [1, 2, 1, 4, 1], [*range(5)], [False] * 5)])], items=6
    )
    assert found.counts(6).tolist() == [0, 3, 1, 0, 1, 0]


def test_users_are_numbered_as_in_training():
    train = Histories.from_tables(
        [table([("a", [1], [1], [False]), ("c", [1], [1], [False])])], items=2
    )
    test = Histories.from_tables(
        [table([("c", [1, 1], [1, 2], [False, True]), ("b", [0, 1], [1, 2], [False, True])])],
        items=2,
    )
    aligned = test.aligned_to(train)
    assert dict(zip(aligned.user_ids.to_pylist(), aligned.users.tolist(), strict=True)) == {
        "b": -1,
        "c": 1,
    }
    assert aligned.batch(np.arange(2), lags=3).users.tolist() == [-1, 1]


def test_event_types_follow_their_items():
    rows = table([("a", [1, 2, 3], [1, 2, 3], [False, False, True])])
    events = pa.array([[1, 0, 2]], pa.list_(pa.int8()))
    histories = Histories.from_tables([rows.append_column("events", events)], items=4)
    assert histories.batch(np.arange(1), lags=5).events.tolist() == [0, 1]
    wrong = pa.array([[1, 0, 77]], pa.list_(pa.int8()))
    with pytest.raises(HistoriesError, match="event types"):
        Histories.from_tables([rows.append_column("events", wrong)], items=4)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("u", [0, 1], [5, 5], [False, True])], "no strictly earlier position"),
        ([("u", [0, 99], [1, 2], [False, True])], "beyond the vocabulary"),
        ([("u", [0, 1], [2, 1], [False, False])], "ordered oldest first"),
        ([("u", [0, 1], [1, 2], [False])], "differ in length"),
    ],
)
def test_a_table_that_breaks_the_contract_is_refused(rows, message):
    with pytest.raises(HistoriesError, match=message):
        Histories.from_tables([table(rows)], items=10)


def test_missing_columns_are_named():
    with pytest.raises(HistoriesError, match="times"):
        Histories.from_tables([table([]).drop_columns(["times"])], items=1)


def test_no_rows_are_no_labels():
    assert len(Histories.from_tables([table([])], items=1)) == 0
