"""Where the threads of a crew wait for one another inside of kernels, by numbers in memory.

To meet in Python, a thread needs the interpreter's lock, which another has just then; to be woken
for it costs 50 microseconds, and a training step of less than a millisecond has four occasions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numba.extending
from llvmlite import ir

from hyperrec_core.kernels.compiled import kernel

BEGUN, HALFWAY, DONE, FAILED = range(4)
"""What a part tells the others: that the turn has begun (part 0), that it is halfway, done
(or given up), or has failed."""

_PATIENCE = 4
_LEAST_READS, _MOST_READS = 1 << 14, 1 << 20  # 8 and 500 microseconds or so


class Meeting(NamedTuple):
    """What the parts of a turn know of one another.

    Attributes:
        marks: the last turn of which a part has told each of the four, and the reads for which
            the part waits, int64 [5, threads, 8]; each has a line of memory for itself.
        turn: counts from 1.
        parts: how many take part.
    """

    marks: Any
    turn: int
    parts: int


@numba.extending.intrinsic  # type: ignore[untyped-decorator]
def _read(typing_context: Any, marks: Any, stage: Any, part: Any) -> Any:
    """A mark as other threads left it; a plain read would be done once for a whole loop."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_address(context, builder, signature, arguments), "acquire", 8)

    return numba.types.int64(marks, stage, part), generate


@numba.extending.intrinsic  # type: ignore[untyped-decorator]
def _write(typing_context: Any, marks: Any, stage: Any, part: Any, turn: Any) -> Any:
    """Set a mark; who reads it sees all that was written before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = context.cast(builder, arguments[3], signature.args[3], numba.types.int64)
        address = _address(context, builder, signature, arguments)
        builder.store_atomic(value, address, "release", 8)
        return context.get_dummy_value()

    return numba.types.void(marks, stage, part, turn), generate


def _address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    index = [
        context.cast(builder, value, kind, numba.types.intp)
        for value, kind in zip(arguments[1:3], signature.args[1:3], strict=True)
    ]
    return numba.core.cgutils.get_item_pointer(
        context, builder, signature.args[0], array, [*index, ir.Constant(ir.IntType(64), 0)],
        wraparound=False,
    )  # fmt: skip


@kernel
def tell(meeting: Meeting, stage: int, part: int) -> None:
    """Say that a part has come so far."""
    _write(meeting.marks, stage, part, meeting.turn)


@kernel
def has_told(meeting: Meeting, stage: int, part: int) -> bool:
    """Whether a part has come so far."""
    return bool(_read(meeting.marks, stage, part) >= meeting.turn)


@kernel
def have_told(meeting: Meeting, stage: int, part: int) -> bool:
    """Let a part wait a moment until all have come so far; whether they have."""
    other, reads = 0, _reads(meeting, part)
    for read in range(reads):
        while other < meeting.parts and has_told(meeting, stage, other):
            other += 1
        if other == meeting.parts:
            return _met(meeting, part, reads, read)
    return _missed(meeting, part, reads)


@kernel
def next_has_begun(meeting: Meeting, part: int) -> bool:
    """Let a part wait a moment until the turn after this one has begun; whether it has."""
    reads = _reads(meeting, part)
    for read in range(reads):
        if _read(meeting.marks, BEGUN, 0) > meeting.turn:
            return _met(meeting, part, reads, read)
    return _missed(meeting, part, reads)


# Who waits may hold the core of the one waited for, where there are fewer cores than threads. So a
# part waits longer the next time only if waiting was of use.


@kernel
def _reads(meeting: Meeting, part: int) -> int:
    return int(min(max(meeting.marks[_PATIENCE, part, 0], _LEAST_READS), _MOST_READS))


@kernel
def _met(meeting: Meeting, part: int, reads: int, read: int) -> bool:
    if read:
        meeting.marks[_PATIENCE, part, 0] = _MOST_READS
    return True


@kernel
def _missed(meeting: Meeting, part: int, reads: int) -> bool:
    meeting.marks[_PATIENCE, part, 0] = reads // 2
    return False
