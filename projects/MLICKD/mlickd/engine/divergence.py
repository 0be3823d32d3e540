"""Stop a run whose losses or gradients are not finite, before they change its parameters."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import fields, is_dataclass

import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mlickd.errors import InputError, shorten_list
from mlickd.files import whole_file

from .processes import max_over_processes

__all__ = ["DivergenceGuard", "save_batch"]

# Names and image ids that a message lists.
_MAX_NAMES = 4
_MAX_IDS = 32


class DivergenceGuard:
    """A check of each training step, between its gradients and the update of the parameters.

    The check costs one pass over the gradients. All processes agree on one number in each step, so that they stop in
    the same one. A process whose own losses are finite may see gradients that are not, because gradients are the mean
    over all processes. Only if a check fails, the processes tell each other which images are the cause.
    """

    def __init__(self, model: nn.Module, output_dir: str = ""):
        """
        Args:
            model: model in training, in one process or several.
            output_dir: folder in which to save the batch on which training fails; empty: nowhere.
        """
        self.model = model.module if isinstance(model, DistributedDataParallel) else model
        self.output_dir = output_dir

    def check(
        self, iteration: int, pieces: list[list[dict]], losses: list[dict[str, torch.Tensor]], *, gradients: bool = True
    ) -> None:
        """Check losses and gradients; all processes call this after the last backward pass of a batch.

        Args:
            iteration: iteration of the batch.
            pieces: pieces of the batch, lists of samples.
            losses: losses of each piece, scalars.
            gradients: also check the gradients; False if an overflow is normal.

        Raises:
            InputError: a loss or gradient is not finite in one of the processes, raised in all of them. The message
                names the images, where they are saved, and a remedy.
        """
        if not max_over_processes(self._is_suspicious(losses, gradients)):
            return
        cause, samples, is_loss = self._find_cause(pieces, losses, gradients)
        causes = comm.all_gather((cause, is_loss))
        if not any(found for found, _ in causes):
            return
        # A loss that is not finite leaves such gradients in all processes; only its own images are the cause.
        message = ""
        if cause and is_loss == any(of_loss for _, of_loss in causes):
            message = f"{cause} {self._save(iteration, cause, samples)}"
        messages = [text for text in comm.all_gather(message) if text]
        raise InputError(
            f"iteration {iteration}: {'; '.join(messages)}; parameters and checkpoints are as they were before. "
            f"{self._remedy()}"
        )

    def _is_suspicious(self, losses: list[dict[str, torch.Tensor]], gradients: bool) -> torch.Tensor:
        """Return whether something is not finite; also True for finite gradients whose norm overflows."""
        values = [loss for of_piece in losses for loss in of_piece.values()]
        if gradients:
            # A norm takes a third of the time of a sum, and a fiftieth of that of isfinite().
            values += [torch.linalg.vector_norm(p.grad) for p in self.model.parameters() if p.grad is not None]
        return ~torch.stack([value.float() for value in values]).isfinite().all()

    def _find_cause(
        self, pieces: list[list[dict]], losses: list[dict[str, torch.Tensor]], gradients: bool
    ) -> tuple[str, list[dict], bool]:
        """Return what is not finite (empty: nothing), the samples that may cause it, and whether it is a loss."""
        for piece, of_piece in zip(pieces, losses, strict=True):
            values = {name: loss.item() for name, loss in of_piece.items() if not loss.isfinite()}
            if values:
                return ", ".join(f"{name} is {value}" for name, value in values.items()), piece, True
        named = [(name, p.grad) for name, p in self.model.named_parameters() if gradients and p.grad is not None]
        names = _not_finite(named)
        cause = f"the gradients of {shorten_list(names, _MAX_NAMES)} are not finite (the losses are)" if names else ""
        return cause, sum(pieces, []), False

    def _save(self, iteration: int, cause: str, samples: list[dict]) -> str:
        """Save samples; return their ids and where they are saved."""
        text = f"for images {shorten_list([sample['image_id'] for sample in samples], _MAX_IDS)}"
        if not self.output_dir:
            return text
        rank = comm.get_rank()
        path = os.path.join(self.output_dir, f"bad_batch{f'_rank{rank}' if rank else ''}.pt")
        try:
            save_batch(path, samples, iteration=iteration, reason=cause)
        except InputError as error:
            return f"{text} (which could not be saved: {error})"
        return f"{text} (saved in {path})"

    def _remedy(self) -> str:
        if names := _not_finite(self.model.named_parameters()):
            return (
                f"{shorten_list(names, _MAX_NAMES)} are not finite themselves: start from other weights, or with a "
                "lower SOLVER.BASE_LR from an earlier checkpoint"
            )
        return "Lower SOLVER.BASE_LR, take more SOLVER.WARMUP_ITERS, or set SOLVER.CLIP_GRADIENTS.ENABLED True"


def save_batch(path: str, samples: list[dict], **facts: object) -> None:
    """Write samples such that ``torch.load(path, weights_only=True)`` reads them.

    Args:
        path: path of the file.
        samples: samples as a model takes them. The file has them under ``images``, with tensors instead of Detectron2's
            structures and dicts instead of views and knowledge.
        facts: further entries of the file.

    Raises:
        InputError: the file cannot be written.
    """
    with whole_file(path, "the run has stopped anyway") as file:
        torch.save({**_plain(facts), "images": _plain(samples)}, file)


def _plain(value: object) -> object:
    """Return the same in types that need no pickled class."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, Boxes):
        return _plain(value.tensor)
    if isinstance(value, Instances):
        return {"image_size": tuple(value.image_size), **_plain(value.get_fields())}
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(entry) for entry in value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _not_finite(named: Iterable[tuple[str, torch.Tensor]]) -> list[str]:
    """Return the names of the tensors that are not finite everywhere; a finite norm shows quickly that they are."""
    return [
        name
        for name, value in named
        if not torch.linalg.vector_norm(value.detach()).isfinite() and not value.isfinite().all()
    ]
