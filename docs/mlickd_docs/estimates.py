"""How long the paper's networks would train on a GPU: estimates, from counted operations and the configurations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlickd  # noqa: F401  # isort: skip, first, to keep Detectron2 quiet
from detectron2.config import CfgNode
from tabulate import tabulate

from mlickd.config import default_config

from .costs import TrainingCost, read_costs

__all__ = ["Step", "training_estimates", "training_steps"]

# Floating-point operations a second that a card keeps up.
_RATES = (10e12, 30e12, 100e12)
# Forward, and in the backward pass the gradients of activations and of weights.
_PASSES_IN_TRAINING = 3
# A multiplication and an addition.
_OPERATIONS = 2


@dataclass(frozen=True)
class Step:
    """A command of the method.

    Attributes:
        name: what it does.
        operations: floating-point operations in all.
        memory: bytes on the GPU for weights, their gradients and momentum, and what a batch keeps for its backward
            pass; 0 where nothing is trained.
    """

    name: str
    operations: float
    memory: float


def training_steps(folder: Path, train_images: int) -> Iterator[Step]:
    """The steps for one dataset with VGG16.

    Args:
        folder: with ``wsd_vgg16.yaml``, ``cls_vgg16.yaml`` and ``kd_vgg16.yaml``.
        train_images: in the training dataset.
    """
    costs = read_costs()
    yield _training("teacher", _load(folder / "wsd_vgg16.yaml"), costs["teacher"])
    yield _training("baseline", _load(folder / "cls_vgg16.yaml"), costs["student"])
    views = 2 * train_images  # each image, and mirrored
    yield Step("knowledge cache", views * costs["teacher"].multiply_adds * _OPERATIONS, memory=0)
    distilled = _load(folder / "kd_vgg16.yaml")
    total = distilled.SOLVER.MAX_ITER
    for stage, of_stage in (("stage 1", distilled.KD.FEATURE), ("stage 2", distilled.KD.PREDICTION)):
        distilled.SOLVER.MAX_ITER = of_stage.MAX_ITER or total
        yield _training(f"distilled, {stage}", distilled, costs["student"])


def _training(name: str, cfg: CfgNode, cost: TrainingCost) -> Step:
    images = cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH
    operations = images * cost.multiply_adds * _OPERATIONS * _PASSES_IN_TRAINING
    return Step(name, operations, 3 * 4 * cost.parameters + cfg.SOLVER.IMS_PER_BATCH * cost.saved_bytes)


def _load(file: Path) -> CfgNode:
    cfg = default_config()
    cfg.merge_from_file(str(file))
    return cfg


def training_estimates(configs: Path, *datasets: tuple[str, str, int]) -> str:
    """A table in Markdown.

    Args:
        configs: folder of the configurations.
        datasets: name, folder below ``configs`` and number of training images of each.
    """
    rows = []
    for dataset, folder, train_images in datasets:
        for step in training_steps(configs / folder, train_images):
            hours = [_rounded(step.operations / rate / 3600) for rate in _RATES]
            memory = f"{step.memory / 1e9:.0f} GB" if step.memory else ""
            rows.append([dataset, step.name, f"{step.operations / 1e15:.0f}", *hours, memory])
    rates = [f"hours at {rate / 1e12:.0f}" for rate in _RATES]
    columns = ["data", "step", "10<sup>15</sup> operations", *rates, "memory"]
    return tabulate(rows, columns, tablefmt="github", disable_numparse=True)


def _rounded(hours: float) -> str:
    return f"{hours:.1f}" if hours < 10 else f"{hours:.0f}"
