"""The loader's benchmark as a part of the suite."""

from __future__ import annotations

from contextlib import ExitStack

from .comparison import Comparison, Row, Target
from .loader import measure_loader
from .registry import Option, benchmark
from .workspace import TRAIN, scenes_workspace

__all__ = ["compare_loaders"]


@benchmark(
    "loader",
    "images a second of the training loader, beside Detectron2's on the same photos",
    dataset=Option("dataset (default: drawn pictures)", metavar="NAME"),
    size=Option("side of the view in pixels", quick=64),
    images=Option("loaded in each way in a round", quick=8),
    workers=Option("of the loaders", quick=1, minimum=0),
    repetitions=Option("rounds that count", quick=1),
)
def compare_loaders(
    dataset: str = "", size: int = 224, images: int = 320, workers: int = 2, repetitions: int = 5
) -> list[Comparison]:
    """See :func:`measure_loader`; the ratio is to Detectron2's mapper with a resize to the same square.

    Args:
        dataset: empty: pictures of 384 pixels, drawn as `scenes`.
        size, images, workers, repetitions: of :func:`measure_loader`.
    """
    with ExitStack() as stack:
        if not dataset:
            stack.enter_context(scenes_workspace(64, proposals=False))
        report = measure_loader(dataset or TRAIN, size=size, images=images, workers=workers, repetitions=repetitions)
    comparisons = []
    for where, ways in report["comparisons"].items():
        rows = [Row(name, way["images_per_second"]) for name, way in ways.items()]
        ours, *others = rows
        targets = [Target(ours.name, others[0].name, 3, at_least=True)]
        title = f"{dataset or 'drawn pictures'} at {size} px, {where}"
        comparisons.append(Comparison(title, "images/s", [*others, ours], targets))
    return comparisons
