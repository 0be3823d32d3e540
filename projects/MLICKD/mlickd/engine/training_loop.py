"""The training step: gradients of a whole batch, also in parts and in mixed precision."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mlickd.errors import InputError

from .divergence import DivergenceGuard
from .randomness import seed_iteration

__all__ = ["TrainingLoop", "mixed_precision"]

_PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}

# The scale of float16 gradients halves where they overflow. Below this it is not the scale that makes them do so.
_SMALLEST_SCALE = 1e-4


def mixed_precision(cfg: CfgNode) -> torch.dtype | None:
    """What ``SOLVER.AMP`` asks for on ``MODEL.DEVICE``; None where everything is float32.

    Raises:
        InputError: the type is unknown, or the device has no arithmetic of that type.
    """
    name = cfg.SOLVER.AMP.DTYPE
    if name not in _PRECISIONS:
        raise InputError(f"SOLVER.AMP.DTYPE {name!r} is none of {', '.join(_PRECISIONS)}; give one of them")
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    if name == "float16" and torch.device(cfg.MODEL.DEVICE).type == "cpu":
        raise InputError("SOLVER.AMP.DTYPE 'float16' needs CUDA; set it to bfloat16 on the CPU")
    return _PRECISIONS[name]


class TrainingLoop(SimpleTrainer):
    """Detectron2's :class:`SimpleTrainer`, whose step can split its batch and use mixed precision on any device.

    Parameters, their gradients and the optimizer's state are float32 whatever the precision. Convolutions and linear
    layers of the forward pass take the lower one; RoI pooling, softmaxes and losses ask for float32 themselves.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[list[dict]],
        optimizer: torch.optim.Optimizer,
        *,
        device: torch.device | str = "cpu",
        parts: int = 1,
        precision: torch.dtype | None = None,
        seed: int | None = None,
        output_dir: str = "",
    ):
        """
        Args:
            model: from samples to named losses, each a mean over the samples.
            data_loader: gives lists of samples.
            optimizer: over the model's parameters.
            device: where the model is.
            parts: a batch is run in that many pieces, one after the other; memory falls, gradients stay.
            precision: of :func:`mixed_precision`.
            seed: of dropout and whatever else is random in a step, see :func:`seed_iteration`; None: goes on as it is.
            output_dir: where a batch is saved on which training breaks; empty: nowhere.
        """
        super().__init__(model, data_loader, optimizer)
        self.device_type = torch.device(device).type
        self.parts = parts
        self.precision = precision
        self.seed = seed
        # Small gradients vanish in float16; bfloat16 has the range of float32.
        self.grad_scaler = torch.amp.GradScaler(self.device_type, enabled=precision == torch.float16)
        self._guard = DivergenceGuard(model, output_dir)

    def run_step(self) -> None:
        """One update of the parameters, from one batch.

        Raises:
            InputError: a loss or gradient is not finite; the parameters are those of before.
        """
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        if self.seed is not None:
            # Behind the batch: a loader draws a number when it starts, in a resumed run once more.
            seed_iteration(self.seed, self.iter, comm.get_rank())
        self.optimizer.zero_grad()
        losses: list[dict[str, torch.Tensor]] = []
        pieces = _split(batch, self.parts)
        for i, piece in enumerate(pieces):
            with self._synchronized(last=i == len(pieces) - 1):
                losses.append(self._backward(piece, len(piece) / len(batch)))
        # A step whose gradients overflow in float16 is left out, and the scale halved.
        overflow_is_normal = self.grad_scaler.is_enabled() and self.grad_scaler.get_scale() > _SMALLEST_SCALE
        self._guard.check(self.iter, pieces, losses, gradients=not overflow_is_normal)
        self.after_backward()
        self._write_metrics({name: sum(of_piece[name] for of_piece in losses) for name in losses[0]}, data_time)
        # Clipping, which Detectron2 does inside step(), is to see the gradients themselves.
        self.grad_scaler.unscale_(self.optimizer)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _backward(self, samples: list[dict], share: float) -> dict[str, torch.Tensor]:
        """Add the gradients of a piece that is ``share`` of its batch; returns its part of the batch's losses."""
        with torch.autocast(self.device_type, dtype=self.precision, enabled=self.precision is not None):
            losses = self.model(samples)
        losses = {name: share * loss for name, loss in losses.items()}
        self.grad_scaler.scale(sum(losses.values())).backward()
        return {name: loss.detach() for name, loss in losses.items()}

    def _synchronized(self, last: bool) -> AbstractContextManager:
        """Processes add up their gradients once a batch, with the last piece."""
        if last or not isinstance(self.model, DistributedDataParallel):
            return nullcontext()
        return self.model.no_sync()

    def state_dict(self) -> dict:
        """As :class:`SimpleTrainer`, and the scale of float16 gradients."""
        return super().state_dict() | {"grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        """As :class:`SimpleTrainer`; the scale starts anew where the run before had none."""
        super().load_state_dict(state_dict)
        if state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])


def _split(batch: list[dict], parts: int) -> list[list[dict]]:
    """The samples in order, in ``parts`` pieces whose lengths differ by one at most."""
    bounds = [len(batch) * i // parts for i in range(parts + 1)]
    return [batch[start:end] for start, end in zip(bounds, bounds[1:], strict=False) if start < end]
