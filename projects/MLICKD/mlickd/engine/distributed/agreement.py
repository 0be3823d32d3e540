"""What all processes have to know before any of them goes on."""

from __future__ import annotations

import torch
import torch.distributed as dist
from detectron2.utils import comm

__all__ = ["highest"]


def highest(number: int | torch.Tensor) -> int:
    """The highest of the whole numbers that the processes give, each one; the same in all of them.

    One small reduction. Detectron2's ``comm.all_gather`` would pickle, and exchange lengths before, for any object.

    Args:
        number: of this process; a tensor stays as it is.
    """
    if comm.get_world_size() == 1:
        return int(number)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    value = torch.as_tensor(number).to(device, torch.int64, copy=True)
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return int(value)
