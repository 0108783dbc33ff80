"""How kernels are compiled."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
import numba.extending
import numpy as np
from llvmlite import ir

Function = TypeVar("Function", bound=Callable[..., Any])

# Sums may be reordered and products fused, which vector instructions need; a NaN must stay one,
# because it is how a diverged training is found.
_FASTMATH = {"reassoc", "contract", "arcp", "nsz"}

# A literal is float64 in a kernel, and one is enough to widen all arithmetic around it.
ZERO, HALF, ONE, TWO, FOUR = (np.float32(x) for x in (0.0, 0.5, 1.0, 2.0, 4.0))

_LINE, _PREFETCHED = 64, 256  # bytes of a line of memory, and of a row that are asked for


def _folder() -> Path | None:
    """Where compiled kernels are kept, or None where nothing can be written.

    Numba notices a changed kernel, but not a changed kernel that a kernel calls. So what is kept
    belongs to one text of all kernels.
    """
    texts = (path.read_bytes() for path in sorted(Path(__file__).parents[1].glob("**/*.py")))
    digest = hashlib.sha256(b"".join(text for text in texts if b"\n@kernel\n" in text))
    base = numba.config.CACHE_DIR or Path(__file__).parent / "__pycache__"
    folder = Path(base, digest.hexdigest()[:16])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder


_FOLDER = _folder()


def kernel(function: Function) -> Function:
    """Compile for one thread, without the interpreter's lock; kept on disk between processes.

    What a kernel calls becomes part of it. A call would lead to whichever copy of the other kernel
    the process has loaded first, and copies round differently: a process that has just compiled
    them would not give the bits of one that finds them kept.
    """
    chosen = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(_FOLDER or "")
    try:
        compiled: Function = numba.njit(
            cache=_FOLDER is not None,
            nogil=True,
            fastmath=_FASTMATH,
            forceinline=True,
            error_model="numpy",  # x / 0 is no error: what it leads to is seen in the loss
        )(function)
    finally:
        numba.config.CACHE_DIR = chosen
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
    """Add factor * source to target, both float32 vectors."""
    for i in range(len(target)):
        target[i] += factor * source[i]


@kernel
def copy(target: Any, source: Any) -> None:
    """Copy a short float32 vector; target[:] = source would take several times as long."""
    for i in range(len(target)):
        target[i] = source[i]


@numba.extending.intrinsic  # type: ignore[untyped-decorator]
def prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Ask for what will be used soon, without waiting for it.

    Of a float32 table [n, D] the row of that number, which is asked for to be written; of a vector
    the line of memory that holds the element.
    """
    table = array.ndim == 2
    length, write = (_PREFETCHED, 1) if table else (_LINE, 0)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        held = context.make_array(signature.args[0])(context, builder, arguments[0])
        first = context.cast(builder, arguments[1], signature.args[1], numba.types.intp)
        zero = ir.Constant(ir.IntType(64), 0)
        start = builder.bitcast(
            numba.core.cgutils.get_item_pointer(
                context, builder, signature.args[0], held, [first, zero][: array.ndim],
                wraparound=False,
            ),
            ir.IntType(8).as_pointer(),
        )  # fmt: skip
        hint = ir.FunctionType(ir.VoidType(), [start.type, *[ir.IntType(32)] * 3])
        function = builder.module.declare_intrinsic("llvm.prefetch", [start.type], hint)
        for offset in range(0, length, _LINE):
            line = builder.gep(start, [ir.Constant(ir.IntType(64), offset)])
            # Into all caches, as data.
            builder.call(function, [line, *(ir.Constant(ir.IntType(32), n) for n in (write, 3, 1))])
        return context.get_dummy_value()

    return numba.types.void(array, index), generate
