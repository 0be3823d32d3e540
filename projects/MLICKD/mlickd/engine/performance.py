"""Speed of training: compilation of the backbone, and reuse of freed memory on the CPU."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable

import torch
from torch import nn

from mlickd.errors import InputError

__all__ = ["compile_backbone", "keep_freed_memory"]

logger = logging.getLogger(__name__)

# Constants of glibc's <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def compile_backbone(model: nn.Module, backend: str | Callable = "inductor") -> None:
    """Compile the backbone of a teacher or a student in place; the names of parameters stay the same.

    Heads are not compiled, because the number of regions differs from batch to batch.

    Args:
        model: model on the device that it will run on.
        backend: see ``torch.compile``.

    Raises:
        InputError: ``torch.compile`` does not work on this machine.
    """
    target = getattr(model, "student", model)
    try:
        # Compilation is lazy; without this, it would fail in the first iteration, with pages of text.
        torch.compile(_increment, backend=backend)(torch.zeros(8, device=target.device))
    except Exception as error:  # backends raise many kinds of errors
        # Some errors wrap the one that names the cause.
        reason = str(getattr(error, "inner_exception", error)).strip().split("\n")[0]
        raise InputError(
            f"SOLVER.COMPILE: torch.compile does not work here ({reason}); install a C++ compiler or set it to False"
        ) from error
    target.backbone.compile(backend=backend)


def _increment(x: torch.Tensor) -> torch.Tensor:
    return x + 1


def keep_freed_memory() -> bool:
    """Make this process keep the memory that it frees for its next tensors.

    By default, glibc returns large blocks to the system at once, and in the next step the system fills them with zeros
    again. This takes a quarter to a third of the CPU time of a teacher's step. The drawback is that the process always
    occupies its peak memory, which was 5% higher with images of several sizes.

    Returns:
        Whether the C library supports it; only glibc does.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return False
    kept = bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))
    logger.debug("Freed memory is kept: %s", kept)
    return kept
