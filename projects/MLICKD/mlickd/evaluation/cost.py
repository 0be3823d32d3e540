"""The cost of a model at inference: parameters and milliseconds."""

from __future__ import annotations

import itertools
import statistics
import time

import torch
from detectron2.config import CfgNode
from torch import nn

from mlickd.data.build import build_test_mapper
from mlickd.data.catalog import dataset_records

__all__ = ["inference_cost"]


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
