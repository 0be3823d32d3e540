"""The training step, which can split a batch into micro-batches and use mixed precision."""

import random
import time
from collections.abc import Iterable
from contextlib import nullcontext

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mlickd.errors import InputError

from .divergence import check_finite

# The scale of float16 gradients is halved when they overflow. Below this scale, overflow is not a likely cause of NaN.
_SMALLEST_SCALE = 1e-4


def mixed_precision(cfg: CfgNode) -> torch.dtype | None:
    """Return the dtype of ``SOLVER.AMP``, or None if it is off; raise InputError if the device does not support it."""
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    if cfg.SOLVER.AMP.DTYPE == "float16" and torch.device(cfg.MODEL.DEVICE).type == "cpu":
        raise InputError("SOLVER.AMP.DTYPE 'float16' needs CUDA; set it to bfloat16 on the CPU")
    return getattr(torch, cfg.SOLVER.AMP.DTYPE)


def seed_iteration(seed: int, iteration: int, rank: int = 0) -> None:
    """Seed all random generators of this process, so that a resumed run draws the numbers of an uninterrupted run.

    Args:
        seed: seed of the run, 0 or more.
        iteration: index of the iteration, 0 or more.
        rank: rank of the process; dropout differs between processes.
    """
    # 4 separates this seed from the sampler's seeds, which have 0 to 3 in the second place.
    state = int(np.random.SeedSequence((seed, 4, iteration, rank)).generate_state(1)[0])
    torch.manual_seed(state)
    np.random.seed(state)  # noqa: NPY002, the generator of other libraries
    random.seed(state)


class TrainingLoop(SimpleTrainer):
    """A :class:`SimpleTrainer` of Detectron2 with gradient accumulation, and mixed precision on any device.

    Parameters, gradients and the optimizer's state are always float32. Convolutions and linear layers of the forward
    pass use the lower precision; RoI pooling, softmaxes and losses use float32.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[list[dict]],
        optimizer: torch.optim.Optimizer,
        *,
        accumulation_steps: int = 1,
        autocast_dtype: torch.dtype | None = None,
        seed: int = 0,
    ):
        """
        Args:
            model: model that maps samples to named losses, each a mean over the samples.
            data_loader: iterable over lists of samples.
            optimizer: optimizer of the model's parameters.
            accumulation_steps: number of micro-batches of a batch. They run one after another to save memory; the
                gradients stay the same.
            autocast_dtype: see :func:`mixed_precision`.
            seed: seed of dropout and other random numbers of a step, see :func:`seed_iteration`.
        """
        super().__init__(model, data_loader, optimizer)
        self.device_type = next(model.parameters()).device.type
        self.accumulation_steps = accumulation_steps
        self.autocast_dtype = autocast_dtype
        self.seed = seed
        self.read_batch = next  # StopHook has another function
        # Small gradients vanish in float16; bfloat16 has the range of float32.
        self.grad_scaler = torch.amp.GradScaler(self.device_type, enabled=autocast_dtype == torch.float16)

    def run_step(self) -> None:
        """Update the parameters from one batch; if a loss or gradient is not finite, raise InputError instead."""
        start = time.perf_counter()
        batch = self.read_batch(self._data_loader_iter)
        data_time = time.perf_counter() - start
        # Seed after reading the batch, because a loader draws a random number when a run starts or resumes.
        seed_iteration(self.seed, self.iter, comm.get_rank())
        self.optimizer.zero_grad()
        bounds = [len(batch) * i // self.accumulation_steps for i in range(self.accumulation_steps + 1)]
        micro_batches = [batch[first:end] for first, end in zip(bounds, bounds[1:], strict=False) if first < end]
        losses: list[dict[str, torch.Tensor]] = []
        for i, samples in enumerate(micro_batches):
            # Processes exchange gradients only for the last micro-batch.
            is_distributed = isinstance(self.model, DistributedDataParallel)
            with self.model.no_sync() if is_distributed and i < len(micro_batches) - 1 else nullcontext():
                losses.append(self._backward(samples, len(samples) / len(batch)))
        # If gradients overflow in float16, the optimizer skips the step and the scale is halved.
        may_overflow = self.grad_scaler.is_enabled() and self.grad_scaler.get_scale() > _SMALLEST_SCALE
        check_finite(self.model, self.iter, micro_batches, losses, gradients=not may_overflow)
        self._write_metrics({name: sum(by_name[name] for by_name in losses) for name in losses[0]}, data_time)
        # Unscale the gradients first, because step() clips them.
        self.grad_scaler.unscale_(self.optimizer)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _backward(self, samples: list[dict], fraction: float) -> dict[str, torch.Tensor]:
        """Multiply the losses of a micro-batch by its fraction of the batch, backpropagate them, and return them."""
        with torch.autocast(self.device_type, dtype=self.autocast_dtype, enabled=self.autocast_dtype is not None):
            losses = self.model(samples)
        losses = {name: fraction * loss for name, loss in losses.items()}
        self.grad_scaler.scale(sum(losses.values())).backward()
        return {name: loss.detach() for name, loss in losses.items()}

    def state_dict(self) -> dict:
        """Return the state of :class:`SimpleTrainer`, and the scale of float16 gradients."""
        return super().state_dict() | {"grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Load the state; keep the initial scale if the earlier run did not use float16.

        Raises:
            InputError: the state is of another optimizer, of other groups of parameters, or of groups with other
                settings.
        """
        # PyTorch would replace the settings by the saved ones. AdamW has `betas`, SGD has `momentum`.
        settings = ("initial_lr", "weight_decay", "momentum", "nesterov", "betas")
        groups, saved = (
            [(len(group["params"]), *map(group.get, settings)) for group in optimizer["param_groups"]]
            for optimizer in (self.optimizer.state_dict(), state_dict["optimizer"])
        )
        if groups != saved:
            raise InputError(
                "--resume: the run has another optimizer, learning rate, weight decay or momentum (SOLVER, "
                "KD.FEATURE.BASE_LR), or other frozen layers; give the options of its first command, or start a new "
                "run with MODEL.WEIGHTS and another OUTPUT_DIR"
            )
        super().load_state_dict(state_dict)
        if state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
