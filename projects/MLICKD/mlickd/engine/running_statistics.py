"""Running statistics of batch normalization: equal in all processes, and the precise ones the same after a resume."""

from __future__ import annotations

import torch
import torch.distributed as dist
from detectron2.engine import HookBase
from detectron2.engine.hooks import PreciseBN
from detectron2.utils import comm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from mlickd.distillation.hook import KnowledgeLoader, KnowledgeSource

from .randomness import seed_iteration

__all__ = ["EqualStatisticsHook", "RepeatablePreciseBN"]


class EqualStatisticsHook(HookBase):
    """After each step all processes have the same running statistics: the mean of what each has seen.

    Each process normalizes by the statistics of its own images. Without this, a checkpoint would hold those of the
    first process, and in an evaluation during training each process would score its images with its own.
    """

    def __init__(self, model: nn.Module):
        """
        Args:
            model: that trains, whose normalization may be frozen.
        """
        self.model = model

    def after_step(self) -> None:
        """Average what has changed in this step."""
        _average_over_processes(self.model)


class RepeatablePreciseBN(PreciseBN):
    """Detectron2's ``TEST.PRECISE_BN``, which sees the same images in a run that was killed and resumed.

    Detectron2's goes on in its loader from one time to the next, and begins anew in a new process. Here the place in
    the loader follows from the iteration, and is the one that Detectron2 has in a run that nobody kills. A model that
    learns from a teacher gets knowledge with its batches, and several processes have the same statistics.
    """

    def __init__(
        self,
        period: int,
        model: nn.Module,
        data_loader: DataLoader,
        num_iter: int,
        *,
        seed: int,
        source: KnowledgeSource | None = None,
    ):
        """
        Args:
            period: iterations from one time to the next; 0: once, at the end.
            model: that trains.
            data_loader: of :func:`mlickd.data.build_train_loader`, for this hook alone.
            num_iter: batches that are looked at.
            seed: of the run, 0 or more.
            source: of a distillation's knowledge.
        """
        with_knowledge = data_loader if source is None else KnowledgeLoader(data_loader, source)
        super().__init__(period, model, with_knowledge, num_iter)
        self._sampler = data_loader.batch_sampler
        self._model, self._period, self._num_iter, self._seed = model, period, num_iter, seed

    def update_stats(self) -> None:
        """Compute the statistics, of the batches that belong to this iteration."""
        times_before = self.trainer.iter // self._period if self._period > 0 else 0
        self._sampler.start_iteration = times_before * self._num_iter
        self._data_iter = None
        seed_iteration(self._seed, self.trainer.iter, comm.get_rank())
        super().update_stats()
        _average_over_processes(self._model)


def _average_over_processes(model: nn.Module) -> None:
    if comm.get_world_size() == 1:
        return
    statistics = [
        buffer
        for module in model.modules()
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
