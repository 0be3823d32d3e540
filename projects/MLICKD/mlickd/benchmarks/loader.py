"""Images a second of this project's loader and of Detectron2's, on the same photos."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import chain, cycle, islice
from typing import Any

import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetMapper, build_detection_train_loader
from detectron2.data import transforms as T

from mlickd.config import default_config
from mlickd.data import MultiLabelMapper, TrainingBatchSampler, build_train_loader, dataset_records
from mlickd.runs import machine_line

__all__ = ["measure_loader"]

_BATCH = 16
_OURS = "mlickd"
_SQUARE = "Detectron2, T.Resize to the same square"
_DEFAULT = "Detectron2, shortest edge to that size"


def measure_loader(
    dataset: str,
    *,
    size: int = 224,
    image_format: str = "BGR",
    images: int = 320,
    workers: int = 2,
    repetitions: int = 5,
) -> dict[str, Any]:
    """Load images in three ways, in turn, so that what the machine does meanwhile falls on all of them.

    The ways are this project's mapper; Detectron2's ``DatasetMapper`` that warps to the same square; and the one that
    Detectron2 makes from its default configuration, which resizes the shortest edge. All mirror at random, and none has
    annotations or proposals. PyTorch has one thread.

    Args:
        dataset: a registered dataset.
        size: side of the view, or length of the shortest edge, in pixels.
        image_format: ``RGB`` or ``BGR``, Detectron2's default.
        images: loaded in each way in a round.
        workers: of the data loaders; 0: compare the mappers alone.
        repetitions: rounds that count, after one that does not.

    Returns:
        ``machine``, the arguments, and ``comparisons``: in "one process" (by its CPU time) and with "N workers" (by the
        clock), of each way the ``images_per_second`` in every round, and ``ratio``, the median over the rounds of this
        project's to its own.

    Raises:
        InputError: there is no such dataset.
    """
    records = dataset_records(dataset, boxes=False)
    augmentations = {
        _SQUARE: T.Resize((size, size)),
        _DEFAULT: T.ResizeShortestEdge(size, get_cfg().INPUT.MAX_SIZE_TRAIN),
    }
    mappers = {
        name: DatasetMapper(is_train=True, augmentations=[resize, T.RandomFlip()], image_format=image_format)
        for name, resize in augmentations.items()
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ways = {_OURS: _our_samples(records, size, image_format)}
        ways |= {name: map(mapper, cycle(records)) for name, mapper in mappers.items()}
        comparisons = {"one process": _compare(ways, images, repetitions)}
        if workers:
            ways = {_OURS: _our_loader(dataset, size, image_format, workers)}
            ways |= {name: _their_loader(records, mapper, workers) for name, mapper in mappers.items()}
            comparisons[f"{workers} workers"] = _compare(ways, images, repetitions, workers)
    finally:
        torch.set_num_threads(threads)
    arguments = {"dataset": dataset, "size": size, "image_format": image_format, "images": images}
    return {"machine": machine_line(), **arguments, "repetitions": repetitions, "comparisons": comparisons}


def _our_samples(records: list[dict], size: int, image_format: str) -> Iterator[dict]:
    mapper = MultiLabelMapper(image_format=image_format)
    sampler = TrainingBatchSampler(len(records), _BATCH, (size,), seed=0)
    views = (item.view for batch in sampler for item in batch)
    yield from map(mapper, cycle(records), views)


def _our_loader(dataset: str, size: int, image_format: str, workers: int) -> Iterator[dict]:
    cfg = default_config()
    cfg.MODEL.META_ARCHITECTURE = "MultiLabelClassifier"
    cfg.MODEL.DEVICE = "cpu"
    cfg.DATASETS.TRAIN = (dataset,)
    cfg.INPUT.SIZES_TRAIN = (size,)
    cfg.INPUT.FORMAT = image_format
    cfg.SOLVER.IMS_PER_BATCH = _BATCH
    cfg.DATALOADER.NUM_WORKERS = workers
    return chain.from_iterable(build_train_loader(cfg))


def _their_loader(records: list[dict], mapper: Callable[[dict], dict], workers: int) -> Iterator[dict]:
    return chain.from_iterable(
        build_detection_train_loader(records, mapper=mapper, total_batch_size=_BATCH, num_workers=workers)
    )


def _compare(
    ways: dict[str, Iterator[dict]], images: int, repetitions: int, workers: int = 0
) -> dict[str, dict[str, Any]]:
    # One process has one thread; its own seconds do not depend on what else the machine does.
    clock = time.perf_counter if workers else time.process_time
    waiting = 2 * workers * _BATCH  # images that workers have ready when nobody asks for any
    speeds = {name: [] for name in ways}
    for number in range(repetitions + 1):
        for name, samples in ways.items():
            gc.collect()  # nobody pays for what another has left
            for _ in islice(samples, waiting):
                pass
            start = clock()
            for _ in islice(samples, images):
                pass
            seconds = clock() - start
            if number:
                speeds[name].append(images / seconds)
            if workers:
                time.sleep(1)  # the workers fill their queues, before another is timed
    ratios = {
        name: statistics.median(ours / other for ours, other in zip(speeds[_OURS], values, strict=True))
        for name, values in speeds.items()
    }
    return {name: {"images_per_second": values, "ratio": ratios[name]} for name, values in speeds.items()}
