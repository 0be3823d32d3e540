"""Speed and memory of a model: compilation, memory of the CPU, cost at inference."""

from __future__ import annotations

import ctypes
import itertools
import logging
import statistics
import time
from collections.abc import Callable

import torch
from detectron2.config import CfgNode
from detectron2.utils.analysis import FlopCountAnalysis
from torch import nn

from mlickd.data.build import build_test_mapper
from mlickd.data.catalog import dataset_records
from mlickd.errors import InputError

__all__ = ["compile_backbone", "inference_cost", "keep_freed_memory", "multiply_adds"]

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

    By default glibc returns large blocks to the system at once, and the next step gets them again as pages that the
    system fills with zeros: a quarter to a third of the CPU time of a teacher's step. In exchange, a process always
    occupies its peak of memory, which was 5% higher with images of several sizes.

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


def inference_cost(
    cfg: CfgNode, model: nn.Module, dataset_name: str, num_images: int = 20, warm_up: int = 3
) -> dict[str, float]:
    """Measure the cost of one image at a time, from decoded pixels (and ready proposals) to scores.

    Args:
        cfg: configuration of the model.
        model: model in evaluation mode.
        dataset_name: dataset whose first images are used, repeatedly if it is small.
        num_images: number of images to measure, after ``warm_up`` others.

    Returns:
        ``parameters`` in millions, and the median ``milliseconds`` per image.
    """
    mapper = build_test_mapper(cfg, dataset_name)
    samples = [mapper(record) for record in dataset_records(dataset_name)[: warm_up + num_images]]
    samples = list(itertools.islice(itertools.cycle(samples), warm_up + num_images))
    seconds = []
    with torch.inference_mode():
        for sample in samples:
            start = time.perf_counter()
            model([sample])
            if cfg.MODEL.DEVICE.startswith("cuda"):
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    return {
        "parameters": sum(p.numel() for p in model.parameters()) / 1e6,
        "milliseconds": 1000 * statistics.median(seconds[warm_up:]),
    }


def multiply_adds(model: nn.Module, samples: list[dict]) -> float:
    """Count the multiplications, each with its addition, of convolutions and matrix products, as fvcore does.

    Args:
        model: model in evaluation mode.
        samples: one batch.
    """
    analysis = FlopCountAnalysis(model, samples)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    return float(analysis.total())
