import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperrec_core.examples import SEGMENT, Shuffled
from hyperrec_core.histories import Histories, HistoriesError
from hyperrec_core.tiles import tiles
from tests.hyperrec_core.test_histories import histories_rows, table


def shuffled(histories, seed=0, **settings):
    wanted = {"batch_size": 7, "lags": 4, "per_history": 99, "negatives": 5, "items": 10} | settings
    return Shuffled(histories, seed=seed, number=1, **wanted)


def epoch(histories, seed=0, **settings):
    return list(shuffled(histories, seed, **settings).batches())


def segment_of(batch):
    return np.repeat(np.arange(len(batch.rows)), np.diff(batch.heads))


def unpacked(batch):
    """(user, label, history newest first) of every example, read one by one."""
    found = []
    segments, starts = segment_of(batch), batch.segments.tolist()
    for history, segment in enumerate(segments):
        end, length = int(batch.ends[history]), int(batch.lengths[history])
        items = batch.items[starts[segment] + end - length : starts[segment] + end].tolist()[::-1]
        first, last = batch.first_labels[history : history + 2].tolist()
        for label in batch.labels[first:last].tolist():
            found.append((int(batch.rows[segment]), label, tuple(items)))
    return found


def from_tiles(batch):
    """The same, read from the tiles."""
    laid = tiles(batch, torch.device("cpu"))
    places = laid.ends.shape[1]
    found = []
    for label, context in zip(laid.labels.tolist(), laid.context.tolist(), strict=True):
        tile, place = divmod(int(laid.slots[context]), places)
        end, length = int(laid.ends[tile, place]), int(laid.lengths[tile, place])
        history = laid.items[tile, end - length : end].tolist()[::-1]
        found.append((int(laid.rows[context]), label, tuple(history)))
    return found


def expected(histories, lags):
    batch = histories.batch(np.arange(len(histories)), lags=lags)
    ends = [*batch.offsets.tolist()[1:], len(batch.index)]
    spans = list(zip(batch.offsets.tolist(), ends, strict=True))
    for label, context in zip(batch.labels.tolist(), batch.context.tolist(), strict=True):
        start, end = spans[context]
        yield int(batch.users[context]), label, tuple(batch.index.tolist()[start:end])


@given(histories_rows(), st.integers(1, 9), st.integers(1, 40), st.integers(0, 9))
def test_an_epoch_holds_every_example_once_with_its_history(rows, lags, batch_size, seed):
    histories = Histories.from_tables([table(rows)], items=10)
    if not len(histories):
        return
    batches = epoch(histories, seed, lags=lags, batch_size=batch_size)
    found = [example for batch in batches for example in unpacked(batch)]
    assert sorted(found) == sorted(expected(histories, lags))
    assert len(found) == shuffled(histories).examples
    assert found == [example for batch in batches for example in from_tiles(batch)]


@given(histories_rows(), st.integers(1, 3))
def test_no_more_than_the_bound_of_the_labels_that_share_a_history(rows, bound):
    histories = Histories.from_tables([table(rows)], items=10)
    if not len(histories):
        return
    batches = epoch(histories, per_history=bound)
    found = [example for batch in batches for example in unpacked(batch)]
    _, available = np.unique(histories.ends, return_counts=True)
    assert len(found) == np.minimum(available, bound).sum()
    assert len(found) == shuffled(histories, per_history=bound).examples


@given(histories_rows())
def test_what_a_user_has_interacted_with_is_no_negative(rows):
    histories = Histories.from_tables([table(rows)], items=10)
    if not len(histories):
        return
    for batch in epoch(histories, negatives=12):  # of 10 items: some are drawn twice
        for segment, user in enumerate(batch.rows.tolist()):
            start, stop = histories.offsets[user], histories.offsets[user + 1]
            own = set(histories.items[start:stop].tolist())
            assert batch.seen[segment].tolist() == [n in own for n in batch.negatives.tolist()]


def test_long_rows_are_cut_and_the_cuts_move():
    rng = np.random.default_rng(1)
    items = rng.integers(0, 10, 500).tolist()
    rows = [("u", items, list(range(500)), [False] + [True] * 499)]
    histories = Histories.from_tables([table(rows)], items=10)
    one, other = (epoch(histories, seed, lags=20, batch_size=64) for seed in (1, 2))
    assert sorted(e for b in one for e in unpacked(b)) == sorted(
        e for b in other for e in unpacked(b)
    )
    assert max(np.diff(b.segments).max() for b in one) < SEGMENT + 20
    assert {frozenset(unpacked(b)) for b in one} != {frozenset(unpacked(b)) for b in other}


def test_segments_of_one_shuffle_every_label_by_itself():
    rows = [(f"u{n:02d}", [n] * 60, list(range(60)), [False] + [True] * 59) for n in range(10)]
    histories = Histories.from_tables([table(rows)], items=10)
    alone = epoch(histories, lags=1, batch_size=30, segment=1)
    assert sorted(e for b in alone for e in unpacked(b)) == sorted(expected(histories, 1))
    for batch in alone[:-1]:
        assert len(batch.labels) == len(batch.rows) == 30
        assert len(set(batch.rows.tolist())) > 5
    together = epoch(histories, lags=1, batch_size=30)
    assert max(len(b.labels) / len(b.rows) for b in together) > 10


def test_equal_seeds_give_equal_epochs():
    rng = np.random.default_rng(1)
    rows = [
        (f"u{n:03d}", rng.integers(0, 10, 9).tolist(), list(range(9)), [False] + [True] * 8)
        for n in range(40)
    ]
    histories = Histories.from_tables([table(rows)], items=10)
    one, again, other = epoch(histories, 3), epoch(histories, 3), epoch(histories, 4)
    assert [unpacked(b) for b in one] == [unpacked(b) for b in again]
    assert [b.negatives.tolist() for b in one] == [b.negatives.tolist() for b in again]
    assert [unpacked(b) for b in one] != [unpacked(b) for b in other]


def test_an_epoch_can_be_entered_at_any_batch():
    rng = np.random.default_rng(1)
    rows = [
        (f"u{n:03d}", rng.integers(0, 10, 9).tolist(), list(range(9)), [False] + [True] * 8)
        for n in range(40)
    ]
    histories = Histories.from_tables([table(rows)], items=10)
    whole = [(unpacked(b), b.negatives.tolist()) for b in epoch(histories)]
    later = [(unpacked(b), b.negatives.tolist()) for b in shuffled(histories).batches(first=17)]
    assert len(whole) == len(shuffled(histories)) > 20
    assert later == whole[17:]


def test_labels_that_share_a_history_are_left_out_alike():
    rows = [("u", [9, 0, 1, 2, 3, 4], [0, 1, 1, 1, 1, 1], [False] + [True] * 5)]
    histories = Histories.from_tables([table(rows)], items=10)
    drawn = [label for seed in range(500) for b in epoch(histories, seed, per_history=2)
             for _, label, _ in unpacked(b)]  # fmt: skip
    counts = np.bincount(drawn, minlength=5)[:5]
    assert counts.sum() == 1000
    assert counts.min() > 150  # of 200 each; 150 is 4.5 standard deviations away


def test_a_batch_is_about_as_large_as_asked():
    rows = [(f"u{n:03d}", [1, 2, 3], [1, 2, 3], [False, True, True]) for n in range(100)]
    histories = Histories.from_tables([table(rows)], items=10)
    sizes = [len(batch.labels) for batch in epoch(histories, batch_size=20)]
    assert sum(sizes) == 200
    assert all(19 <= size <= 21 for size in sizes[:-1])


@pytest.mark.parametrize("events", [True, False])
def test_event_types_lie_beside_their_items(events):
    rows = table([("a", [1, 2, 3], [1, 2, 3], [False, True, True])])
    if events:
        rows = rows.append_column("events", pa.array([[4, 5, 0]], pa.list_(pa.int8())))
    (batch,) = epoch(Histories.from_tables([rows], items=10))
    assert batch.events.tolist() == ([4, 5] if events else [])


def test_more_labels_than_kernels_can_number_are_refused(monkeypatch):
    monkeypatch.setattr("hyperrec_core.examples._MOST_LABELS", 1)
    rows = table([("u", [1, 2, 3], [1, 2, 3], [False, True, True])])
    with pytest.raises(HistoriesError, match=r"^2 labels are more than 1, which .* fewer days\.$"):
        epoch(Histories.from_tables([rows], items=10))
