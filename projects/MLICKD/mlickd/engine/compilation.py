"""torch.compile for the part of a model that it helps: the backbone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from mlickd.distillation import DistilledClassifier
from mlickd.errors import InputError

__all__ = ["compile_backbone"]


def compile_backbone(model: nn.Module, backend: str | Callable = "inductor") -> None:
    """Compile the backbone of a teacher or a student in place; names of parameters stay as they are.

    Heads stay as they are: the number of regions differs from batch to batch.

    Args:
        model: on the device that it will run on.
        backend: of ``torch.compile``.

    Raises:
        InputError: nothing can be compiled here.
    """
    target = model.student if isinstance(model, DistilledClassifier) else model
    _try_to_compile(target.device, backend)
    target.backbone.compile(backend=backend)


def _try_to_compile(device: torch.device, backend: str | Callable) -> None:
    """Compilation is lazy, and would fail in the first iteration only, with pages of text."""

    def addition(x: torch.Tensor) -> torch.Tensor:
        return x + 1

    try:
        torch.compile(addition, backend=backend)(torch.zeros(8, device=device))
    except Exception as error:  # backends raise errors of their own, below no common class
        # Some of them wrap the one that says what is missing.
        reason = str(getattr(error, "inner_exception", error)).strip().split("\n")[0]
        raise InputError(
            f"SOLVER.COMPILE: torch.compile does not work here ({reason}); install a C++ compiler or set it to False"
        ) from error
