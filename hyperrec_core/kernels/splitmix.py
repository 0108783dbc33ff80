"""SplitMix64: random numbers that can be had in any order, since each belongs to a place.

Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators", figure 17.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hyperrec_core.kernels.compiled import kernel

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_27, _30, _31, _32 = (np.uint64(shift) for shift in (27, 30, 31, 32))


@kernel
def mix(state: Any) -> Any:
    """The output function; products wrap at 64 bits, as it wants."""
    state = (state ^ (state >> _30)) * _FIRST
    state = (state ^ (state >> _27)) * _SECOND
    return state ^ (state >> _31)


@kernel
def number(start: Any, place: Any) -> Any:
    """The number at a place, from 1 on, of the stream that starts there: uniform on 64 bits."""
    return mix(start + np.uint64(place) * GOLDEN)


@kernel
def below(bits: Any, bound: int) -> Any:
    """A number of `number` as an integer below a bound, with a bias below bound / 2^32."""
    return np.int64(((bits >> _32) * np.uint64(bound)) >> _32)
