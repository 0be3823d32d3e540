"""A run that diverges stops before its parameters are lost: losses and gradients that are no finite numbers."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mlickd.errors import InputError

from .bad_batch import save_batch
from .processes import max_over_processes

__all__ = ["DivergenceGuard"]

# Names and image ids in one line; the file has them all.
_MOST_NAMES = 4
_MOST_IDS = 32


@dataclass
class Finding:
    """What is not finite in the batch of one process.

    Attributes:
        what: it is, for a sentence.
        samples: that may be the reason.
        of_loss: a loss, which is of these samples alone; gradients are sums over all processes.
    """

    what: str
    samples: list[dict]
    of_loss: bool


class DivergenceGuard:
    """Looks at each step between its gradients and the update of the parameters.

    That costs one pass over the gradients, and on a GPU one wait for it. Several processes agree on one number in each
    step, so that all of them stop in the same one: a loss belongs to the images of one process, and where it is not
    finite, the others know that only by gradients, which are the mean over all processes. What is not finite, and of
    which images, they tell each other only then.
    """

    def __init__(self, model: nn.Module, output_dir: str = ""):
        """
        Args:
            model: in training, of any number of processes.
            output_dir: where a batch is saved on which training breaks; empty: nowhere.
        """
        self.model = model.module if isinstance(model, DistributedDataParallel) else model
        self.output_dir = output_dir

    def check(
        self, iteration: int, pieces: list[list[dict]], losses: list[dict[str, torch.Tensor]], *, gradients: bool = True
    ) -> None:
        """To be called in all processes, after the last backward pass of a batch.

        Args:
            iteration: of the batch.
            pieces: of the batch, lists of samples.
            losses: of each piece, scalars.
            gradients: also look at them; not where it is normal that they overflow.

        Raises:
            InputError: in all processes, if a loss or gradient is not finite in one of them: says which, of which
                images, where these are saved, and what to do.
        """
        if not max_over_processes(self._is_in_doubt(losses, gradients)):
            return
        finding = self._look_closely(pieces, losses, gradients)
        found = comm.all_gather(finding and (finding.what, finding.of_loss))
        if not any(found):
            return
        # A loss that is not finite leaves such gradients in all processes: its images are the reason, no others.
        by_loss = any(of_loss for _, of_loss in filter(None, found))
        message = ""
        if finding is not None and finding.of_loss == by_loss:
            message = f"{finding.what} {self._save(iteration, finding)}"
        messages = [text for text in comm.all_gather(message) if text]
        raise InputError(
            f"iteration {iteration}: {'; '.join(messages)}; parameters and checkpoints are as they were before. "
            f"{self._remedy()}"
        )

    def _is_in_doubt(self, losses: list[dict[str, torch.Tensor]], gradients: bool) -> torch.Tensor:
        """Whether something is not finite. True is also said of finite gradients whose norm is not."""
        values = [loss for of_piece in losses for loss in of_piece.values()]
        if gradients:
            # A norm takes a third of the time of a sum, and a fiftieth of that of isfinite().
            values += [torch.linalg.vector_norm(p.grad) for p in self.model.parameters() if p.grad is not None]
        return ~torch.stack([value.float() for value in values]).isfinite().all()

    def _look_closely(
        self, pieces: list[list[dict]], losses: list[dict[str, torch.Tensor]], gradients: bool
    ) -> Finding | None:
        for piece, of_piece in zip(pieces, losses, strict=True):
            values = {name: loss.item() for name, loss in of_piece.items() if not loss.isfinite()}
            if values:
                what = ", ".join(f"{name} is {value}" for name, value in values.items())
                return Finding(what, piece, of_loss=True)
        if gradients:
            named = ((name, p.grad) for name, p in self.model.named_parameters() if p.grad is not None)
            if names := _not_finite(named):
                what = f"the gradients of {_listed(names, _MOST_NAMES)} are not finite (the losses are)"
                return Finding(what, list(itertools.chain(*pieces)), of_loss=False)
        return None

    def _save(self, iteration: int, finding: Finding) -> str:
        """Save the samples of a finding; returns which they are, and where."""
        ids = [sample["image_id"] for sample in finding.samples]
        text = f"for images {_listed(ids, _MOST_IDS)}"
        if not self.output_dir:
            return text
        rank = comm.get_rank()
        path = os.path.join(self.output_dir, f"bad_batch{f'_rank{rank}' if rank else ''}.pt")
        try:
            save_batch(path, finding.samples, iteration=iteration, reason=finding.what)
        except InputError as error:
            return f"{text} (which could not be saved: {error})"
        return f"{text} (saved in {path})"

    def _remedy(self) -> str:
        if names := _not_finite(self.model.named_parameters()):
            return (
                f"{_listed(names, _MOST_NAMES)} are not finite themselves: start from other weights, or with a lower "
                "SOLVER.BASE_LR from a checkpoint before the last"
            )
        return "Lower SOLVER.BASE_LR, take more SOLVER.WARMUP_ITERS, or set SOLVER.CLIP_GRADIENTS.ENABLED True"


def _not_finite(named: Iterable[tuple[str, torch.Tensor]]) -> list[str]:
    """Names of the tensors in which not all is finite; a norm is, only where all is."""
    return [
        name
        for name, value in named
        if not torch.linalg.vector_norm(value.detach()).isfinite() and not value.isfinite().all()
    ]


def _listed(items: list[object], most: int) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(str(item) for item in items[:most]) + more
