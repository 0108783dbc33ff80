"""Training by several processes, one a GPU or one a machine, as `torch.distributed` groups them.

Every process holds the whole model and packs every batch, from the same seed, so that all know the
rows it touches. Each derives the loss of its share of the batch's histories; the derivatives are
added up between them, and all take the same step: the result is that of one process but for the
order of the sums.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed
from torch import Tensor


@contextmanager
def group() -> Iterator[int]:
    """Join the processes that `torchrun` has started with this one; yields this one's rank.

    Each takes the GPU of its number on its machine, where there are any. A process that nobody
    started beside others has rank 0 and no group.
    """
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield torch.distributed.get_rank()
    finally:
        torch.distributed.destroy_process_group()


def place() -> tuple[int, int]:
    """This process's rank and how many there are: (0, 1) outside of a group."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def add_up(*tensors: Tensor) -> None:
    """Replace each tensor by its sum over the processes; each must have the same shapes."""
    for tensor in tensors:
        if tensor.numel():
            torch.distributed.all_reduce(tensor)
