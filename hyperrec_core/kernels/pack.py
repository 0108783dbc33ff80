"""Cutting histories into segments, and a batch's segments into flat arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from hyperrec_core.kernels.compiled import kernel, prefetch
from hyperrec_core.kernels.splitmix import below, mix, number

_INTS, _LONGS = 16, 8  # numbers of four and eight bytes in a line of memory
_MOST = 1024  # items of a row: what follows, the processor foresees


@kernel
def draw(stream: int, bound: int, drawn: Any) -> None:
    """Fill int32 [n] with the first numbers below a bound of the stream of that number."""
    start = mix(np.uint64(stream))
    for i in range(len(drawn)):
        drawn[i] = below(number(start, i + 1), bound)


@kernel
def count_examples(rows: Any, ends: Any, per_history: int) -> int:
    """Labels of an epoch: at most so many of those that share a history."""
    total = run = 0
    for j in range(len(ends)):
        same = j > 0 and ends[j] == ends[j - 1] and rows[j] == rows[j - 1]
        run = run + 1 if same else 1
        total += int(run <= per_history)
    return total


@kernel
def cut(
    rows: Any,
    ends: Any,
    offsets: Any,
    phase: Any,
    segment: int,
    per_history: int,
    total: int,
    generator: Any,
) -> Any:
    """Choose an epoch's labels and cut them into segments, in the order of the histories.

    Args:
        rows: the row of each label, [labels].
        ends: where each label's history ends, [labels].
        offsets: where each row starts, [rows + 1].
        phase: where each row is cut, below `segment`, [rows].
        segment: histories that end within so many positions share a segment.
        per_history: at most so many labels of a history, drawn uniformly.
        total: what `count_examples` says.
        generator: of the draw.

    Returns:
        Numbers of the chosen labels, ascending, int32 [total], and where each segment starts among
        them, int32 [segments + 1].
    """
    chosen = np.empty(total, np.int32)
    starts = np.empty(total + 1, np.int32)
    kept = segments = j = 0
    last_row, last_part = -1, -1
    while j < len(ends):
        row, end, stop = rows[j], ends[j], j + 1
        while stop < len(ends) and ends[stop] == end and rows[stop] == row:
            stop += 1
        part = (end - offsets[row] + phase[row]) // segment
        if row != last_row or part != last_part:
            starts[segments] = kept
            segments += 1
            last_row, last_part = row, part
        # Selection sampling (Knuth, The Art of Computer Programming 3.4.2, algorithm S).
        left = min(per_history, stop - j)
        for label in range(j, stop):
            if left == stop - label or generator.random() * (stop - label) < left:
                chosen[kept] = label
                kept += 1
                left -= 1
                if left == 0:
                    break
        j = stop
    starts[segments] = kept
    return chosen, starts[: segments + 1].copy()


@kernel
def pack(
    items: Any,
    events: Any,
    offsets: Any,
    rows: Any,
    ends: Any,
    positions: Any,
    chosen: Any,
    starts: Any,
    order: Any,
    lags: int,
    negatives: int,
    stream: int,
    place: Any,
) -> Any:
    """The arrays of `examples.Examples` for some segments.

    Args:
        items: of all histories, int32 [positions].
        events: their event types, int8 [positions], or empty.
        offsets: where each row starts, [rows + 1].
        rows: the row of each label, [labels].
        ends: where each label's history ends, [labels].
        positions: where each label stands, [labels].
        chosen: as of `cut`.
        starts: as of `cut`.
        order: the segments of the batch, [g].
        lags: how much of a history counts.
        negatives: how many to draw, uniformly.
        stream: of their draw.
        place: scratch, int32 [vocabulary], all -1.
    """
    _fetch(items, offsets, rows, ends, positions, chosen, starts, order)
    count_items = count_histories = count_labels = 0
    for segment in order:
        low, high = starts[segment], starts[segment + 1]
        first, end = chosen[low], -1
        begin = max(offsets[rows[first]], ends[first] - lags)
        for j in range(low, high):
            count_histories += int(ends[chosen[j]] != end)
            end = ends[chosen[j]]
        count_items += end - begin
        count_labels += high - low

    flat_items = np.empty(count_items, np.int32)
    flat_events = np.empty(count_items if len(events) else 0, np.int8)
    segments = np.empty(len(order) + 1, np.int32)
    heads = np.empty(len(order) + 1, np.int32)
    new_ends = np.empty(count_histories, np.int32)
    lengths = np.empty(count_histories, np.int32)
    users = np.empty(len(order), np.int32)
    first_labels = np.empty(count_histories + 1, np.int32)
    candidates = np.empty(count_labels + negatives, np.int32)
    draw(stream, len(place), candidates[count_labels:])
    seen = np.zeros((len(order), negatives), np.bool_)
    # Numbers of the items drawn; an item drawn twice leads from one to the other.
    drawn, twin = candidates[count_labels:], np.empty(negatives, np.int32)
    for k in range(negatives):
        twin[k] = place[drawn[k]]
        place[drawn[k]] = k

    item = history = label = 0
    for g in range(len(order)):
        low, high = starts[order[g]], starts[order[g] + 1]
        first, end = chosen[low], -1
        row = rows[first]
        begin = max(offsets[row], ends[first] - lags)
        segments[g], heads[g], users[g] = item, history, row
        for j in range(low, high):
            example = chosen[j]
            if ends[example] != end:
                end = ends[example]
                new_ends[history] = end - begin
                lengths[history] = min(end - offsets[row], lags)
                first_labels[history] = label
                history += 1
            candidates[label] = items[positions[example]]
            label += 1
        for p in range(begin, end):
            flat_items[item] = items[p]
            if len(events):
                flat_events[item] = events[p]
            item += 1
        for p in range(offsets[row], offsets[row + 1]):
            k = place[items[p]]
            while k >= 0:
                seen[g, k] = True
                k = twin[k]
    segments[len(order)], heads[len(order)] = item, history
    first_labels[history] = label
    for k in range(negatives):
        place[drawn[k]] = -1
    return (
        flat_items, flat_events, segments, heads, users, new_ends, lengths, first_labels,
        candidates, seen,
    )  # fmt: skip


@kernel
def _fetch(
    items: Any,
    offsets: Any,
    rows: Any,
    ends: Any,
    positions: Any,
    chosen: Any,
    starts: Any,
    order: Any,
) -> None:
    """Ask for all that segments are made of, which lies all over the memory.

    What leads to the next thing is asked for of all segments first: waits overlap.
    """
    for segment in order:
        prefetch(starts, segment)
    for segment in order:
        prefetch(chosen, starts[segment])
    for segment in order:
        first, last = chosen[starts[segment]], chosen[starts[segment + 1] - 1]
        prefetch(rows, first)
        for label in range(first, last + 1, _LONGS):
            prefetch(ends, label)
            prefetch(positions, label)
    for segment in order:
        prefetch(offsets, rows[chosen[starts[segment]]])
    for segment in order:
        row = rows[chosen[starts[segment]]]
        for p in range(offsets[row], min(offsets[row + 1], offsets[row] + _MOST), _INTS):
            prefetch(items, p)


@kernel
def lay_out(segments: Any, heads: Any, width: int, places: int) -> Any:
    """Fill tiles with segments one after the other: each one's tile, column and place, int64 [g].

    Args:
        segments: where the items of each segment start, [g + 1].
        heads: where its histories start, [g + 1].
        width: positions of a tile.
        places: histories of a tile.
    """
    placed = np.empty((3, len(heads) - 1), np.int64)
    tile = column = place = 0
    for g in range(len(heads) - 1):
        span, count = segments[g + 1] - segments[g], heads[g + 1] - heads[g]
        if column > 0 and (column + span > width or place + count > places):
            tile, column, place = tile + 1, 0, 0
        placed[0, g], placed[1, g], placed[2, g] = tile, column, place
        column, place = column + span, place + count
    return placed
