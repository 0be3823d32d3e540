"""A check of losses and gradients that stops a diverging run before it changes the parameters."""

from collections.abc import Iterable

import torch
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mlickd.errors import InputError, shorten_list

from .processes import max_over_processes

# Maximum numbers of parameters and images that a message lists.
_MAX_NAMES = 4
_MAX_IDS = 32


def check_finite(
    model: nn.Module,
    iteration: int,
    micro_batches: list[list[dict]],
    losses: list[dict[str, torch.Tensor]],
    *,
    gradients: bool = True,
) -> None:
    """Check that the losses and gradients of a training step are finite.

    All processes call this between the last backward pass and the update of the parameters, and stop in the same step.
    If all values are finite, the check costs one pass over the gradients and one reduction of a number.

    Args:
        model: model in training, may be in DistributedDataParallel.
        iteration: iteration of the batch.
        micro_batches: parts of the batch, each a list of samples.
        losses: scalar losses of each micro-batch by name.
        gradients: check gradients as well; False if the scaled gradients of float16 may overflow.

    Raises:
        InputError: in all processes, if a value of any process is not finite. The message names the images and a
            remedy.
    """
    model = model.module if isinstance(model, DistributedDataParallel) else model
    grads = {name: p.grad for name, p in model.named_parameters() if gradients and p.grad is not None}
    values = [loss for by_name in losses for loss in by_name.values()]
    # A norm takes a third of the time of a sum, and a fiftieth of the time of isfinite().
    values += [torch.linalg.vector_norm(grad) for grad in grads.values()]
    if not max_over_processes(~torch.stack([value.float() for value in values]).isfinite().all()):
        return
    cause, samples = _find_bad_loss(micro_batches, losses)
    found = comm.all_gather((cause, [sample["image_id"] for sample in samples]))
    messages = [f"{text} for images {shorten_list(ids, _MAX_IDS)}" for text, ids in found if text]
    if not messages:
        # Processes average their gradients, so all have the same.
        names = _find_not_finite(grads.items())
        if not names:
            return  # only a norm overflows
        ids = shorten_list([image_id for _, ids in found for image_id in ids], _MAX_IDS)
        problem = f"the gradients of {shorten_list(names, _MAX_NAMES)} are not finite (the losses are finite)"
        messages = [f"{problem} for images {ids}"]
    remedy = "Lower SOLVER.BASE_LR, raise SOLVER.WARMUP_ITERS, or set SOLVER.CLIP_GRADIENTS.ENABLED True"
    if names := _find_not_finite(model.named_parameters()):
        remedy = (
            f"The parameters {shorten_list(names, _MAX_NAMES)} were not finite before this step: start from other "
            "weights, or with a lower SOLVER.BASE_LR from an earlier checkpoint"
        )
    raise InputError(
        f"iteration {iteration}: {'; '.join(messages)}; parameters and checkpoints have not changed. {remedy}"
    )


def _find_bad_loss(micro_batches: list[list[dict]], losses: list[dict[str, torch.Tensor]]) -> tuple[str, list[dict]]:
    """Return a description of the first non-finite losses, and their samples; if all are finite, "" and all samples."""
    for samples, by_name in zip(micro_batches, losses, strict=True):
        bad = [f"{name} is {loss.item()}" for name, loss in by_name.items() if not loss.isfinite()]
        if bad:
            return ", ".join(bad), samples
    return "", sum(micro_batches, [])


def _find_not_finite(tensors: Iterable[tuple[str, torch.Tensor]]) -> list[str]:
    """Return the names of the tensors with a value that is not finite."""
    return [name for name, value in tensors if not value.isfinite().all()]
