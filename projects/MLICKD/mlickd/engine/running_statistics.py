"""Batch normalisation in several processes."""

from __future__ import annotations

import torch
import torch.distributed as dist
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["EqualStatisticsHook"]


class EqualStatisticsHook(HookBase):
    """After each step all processes have the same running statistics: the mean of what each has seen.

    Each process normalises by the statistics of its own images. Without this, a checkpoint would hold those of the
    first process, and in an evaluation during training each process would score its images with its own.
    """

    def __init__(self, model: nn.Module):
        """
        Args:
            model: that trains, whose normalisation may be frozen.
        """
        self.model = model

    def after_step(self) -> None:
        """Average what has changed in this step."""
        if comm.get_world_size() == 1:
            return
        statistics = [
            buffer
            for module in self.model.modules()
            if isinstance(module, _BatchNorm) and module.training and module.track_running_stats
            for buffer in (module.running_mean, module.running_var)
        ]
        if not statistics:
            return
        together = torch.cat([buffer.flatten() for buffer in statistics])
        dist.all_reduce(together)
        together /= comm.get_world_size()
        for buffer, mean in zip(statistics, together.split([b.numel() for b in statistics]), strict=True):
            buffer.copy_(mean.view_as(buffer))
