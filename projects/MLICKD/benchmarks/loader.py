"""Speed of the training loader, compared with the loader of Detectron2 on the same images."""

import gc
import time
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import chain, cycle, islice

import torch
from detectron2.data import DatasetMapper, build_detection_train_loader
from detectron2.data import transforms as T

from mlickd.config import default_config
from mlickd.data import MultiLabelMapper, TrainingBatchSampler, build_train_loader, dataset_records

from .measurement import BenchmarkResult
from .settings import TRAIN, synthetic_datasets

_BATCH = 16


def measure_loader(
    dataset: str = "", size: int = 224, images: int = 320, workers: int = 2, repetitions: int = 5
) -> list[BenchmarkResult]:
    """Images per second of the training loader and of Detectron2's loader, in one process and with workers.

    Both resize to the same square and mirror at random. Neither loads boxes or proposals. PyTorch has one thread.

    Args:
        dataset: registered dataset (default: synthetic images)
        size: side of the view in pixels
        images: images per loader and repetition
        workers: worker processes of each loader
        repetitions: timed repetitions
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with nullcontext() if dataset else synthetic_datasets(64, proposals=False):
        title = f"{dataset or 'synthetic images'} at {size} px"
        dataset = dataset or TRAIN
        records = dataset_records(dataset, boxes=False)
        mapper = DatasetMapper(
            is_train=True, augmentations=[T.Resize((size, size)), T.RandomFlip()], image_format="BGR"
        )
        sampler = TrainingBatchSampler(len(records), _BATCH, (size,), seed=0)
        views = (item.view for item in chain.from_iterable(sampler))
        samples = {
            "Detectron2": map(mapper, cycle(records)),
            "mlickd": map(MultiLabelMapper(image_format="BGR"), cycle(records), views),
        }
        speeds = {"one process": _images_per_second(samples, images, repetitions)}
        cfg = default_config()
        cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE = "MultiLabelClassifier", "cpu"
        cfg.DATASETS.TRAIN = (dataset,)
        cfg.INPUT.SIZES_TRAIN, cfg.INPUT.FORMAT = (size,), "BGR"
        cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS = _BATCH, workers
        loaders = {
            "Detectron2": build_detection_train_loader(
                records, mapper=mapper, total_batch_size=_BATCH, num_workers=workers
            ),
            "mlickd": build_train_loader(cfg),
        }
        samples = {name: chain.from_iterable(loader) for name, loader in loaders.items()}
        speeds[f"{workers} workers"] = _images_per_second(samples, images, repetitions, workers)
    torch.set_num_threads(threads)
    return [BenchmarkResult(f"{title}, {key}", "images/s", values) for key, values in speeds.items()]


def _images_per_second(
    loaders: dict[str, Iterator[dict]], images: int, repetitions: int, workers: int = 0
) -> dict[str, list[float]]:
    # One process has one thread. Its CPU time does not depend on the load of the machine.
    clock = time.perf_counter if workers else time.process_time
    speeds = {name: [] for name in loaders}
    for number in range(repetitions + 1):
        for name, samples in loaders.items():
            gc.collect()  # keeps the garbage of one loader out of the time of the next
            for _ in islice(samples, 2 * workers * _BATCH):  # skips prefetched batches
                pass
            start = clock()
            for _ in islice(samples, images):
                pass
            seconds = clock() - start
            if number:  # the first repetition is a warm-up
                speeds[name].append(images / seconds)
            if workers:
                time.sleep(1)  # the workers fill their queues before another loader is timed
    return speeds
