"""Losses that compare the images of a batch with each other, where several processes have a part of the batch each."""

from __future__ import annotations

import torch
import torch.distributed as dist
from detectron2.utils import comm

__all__ = ["gathered", "with_whole_gradient"]


def gathered(of_images: torch.Tensor) -> torch.Tensor:
    """The same of the images of all processes.

    Args:
        of_images: (n, ...) of this process's images, of which each process has as many.

    Returns:
        (N, ...), by process. Gradients flow to this process's images alone, see :func:`with_whole_gradient`.
    """
    if comm.get_world_size() == 1:
        return of_images
    own = of_images.detach().contiguous()
    of_processes = [torch.empty_like(own) for _ in range(comm.get_world_size())]
    dist.all_gather(of_processes, own)
    of_processes[comm.get_rank()] = of_images
    return torch.cat(of_processes)


def with_whole_gradient(loss: torch.Tensor) -> torch.Tensor:
    """A loss over :func:`gathered` images, with the gradient that it has where one process has the whole batch.

    Each of W processes has the whole loss, and its gradient with respect to its own images. Their sum is the gradient;
    DistributedDataParallel takes the mean. So the gradient counts W times here, and the loss once.
    """
    others = comm.get_world_size() - 1
    return loss + others * (loss - loss.detach()) if others else loss
