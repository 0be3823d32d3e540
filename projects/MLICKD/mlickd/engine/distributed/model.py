"""A model whose gradients are the mean of those of all processes."""

from __future__ import annotations

import inspect

from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

__all__ = ["distributed_model"]

# How newer versions of PyTorch call the option, and older ones.
_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)


def distributed_model(model: nn.Module, find_unused_parameters: bool = False) -> nn.Module:
    """The model in ``DistributedDataParallel``; as it is in a single process.

    As Detectron2's ``create_ddp_model``, which knows GPUs alone.

    Args:
        model: on this process's GPU, or on the processor.
        find_unused_parameters: some parameters get no gradients.
    """
    if comm.get_world_size() == 1:
        return model
    on_gpu = next(model.parameters()).is_cuda
    return DistributedDataParallel(
        model,
        device_ids=[comm.get_local_rank()] if on_gpu else None,
        find_unused_parameters=find_unused_parameters,
        # Processes do not always run the model equally often: those with less to evaluate would wait.
        **{_SYNC_BUFFERS: False},
    )
