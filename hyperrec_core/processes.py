"""Training by several processes, one a GPU or one a machine, as `torch.distributed` groups them.

Every process holds the whole model and packs every batch, from the same seed, so that all know the
rows it touches. Each derives the loss of its share of the batch's histories; the derivatives are
added up between them, and all take the same step: the result is that of one process but for the
order of the sums.
"""

from __future__ import annotations

import torch
import torch.distributed
from torch import Tensor


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
