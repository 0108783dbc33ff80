"""How kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])

# Sums may be reordered and products fused, which vector instructions need; a NaN must stay one,
# because it is how a diverged training is found.
_FASTMATH = {"reassoc", "contract", "arcp", "nsz"}

# A literal is float64 in a kernel, and one is enough to widen all arithmetic around it.
ZERO, HALF, ONE, TWO, FOUR = (np.float32(x) for x in (0.0, 0.5, 1.0, 2.0, 4.0))


def kernel(function: Function) -> Function:
    """Compile for one thread, without the interpreter's lock; kept on disk between processes."""
    compiled: Function = numba.njit(cache=True, nogil=True, fastmath=_FASTMATH)(function)
    return compiled


def parallel_kernel(function: Function) -> Function:
    """Compile `numba.prange` loops for several threads."""
    compiled: Function = numba.njit(cache=True, nogil=True, parallel=True)(function)
    return compiled


@kernel
def dot(a: Any, b: Any) -> Any:
    """Dot product of two float32 vectors."""
    total = ZERO
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@kernel
def add(target: Any, source: Any, factor: Any) -> None:
    """target += factor * source, for float32 vectors."""
    for i in range(len(target)):
        target[i] += factor * source[i]
