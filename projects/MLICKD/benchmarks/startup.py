"""Time from the start of the command to the first batch, and memory of the trainer and the loader workers."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from mlickd.errors import InputError

from .measurement import BenchmarkResult
from .settings import CONFIGS, module_environment
from .synthetic import write_synthetic_coco


def measure_startup(
    images: int = 82783,
    proposals: int = 500,
    workers: int = 2,
    batches: int = 10,
    data: str = "",
    options: Sequence[str] = (),
) -> list[BenchmarkResult]:
    """Seconds to the first training batch, and memory of the trainer and its loader workers, on data of COCO's size.

    Datasets, checks and loaders are the same as in the training of a teacher. No model is built.

    Args:
        images: images of the training dataset
        proposals: proposals of each image
        workers: worker processes of the loader
        batches: batches to read before memory is measured
        data: folder that keeps the data (default: a temporary folder)
        options: KEY VALUE pairs for configs/wsd_vgg16.yaml
    """
    with nullcontext(data) if data else tempfile.TemporaryDirectory() as folder:
        write_synthetic_coco(Path(folder), images, proposals)
        given = ["MODEL.BACKBONE.WEIGHTS", "", "MODEL.DEVICE", "cpu"]
        given += ["DATALOADER.NUM_WORKERS", str(workers), *options]
        command = [sys.executable, "-m", "benchmarks.startup_process", str(batches), str(CONFIGS / "wsd_vgg16.yaml")]
        environment = module_environment() | {"DETECTRON2_DATASETS": str(Path(folder).absolute())}
        settings = {"env": environment, "stdout": subprocess.PIPE, "encoding": "utf-8", "check": False}
        start = time.time()
        process = subprocess.run([*command, *given], **settings)
    if process.returncode:
        raise InputError("startup: training did not start; see its message above")
    report = json.loads(process.stdout.splitlines()[-1])
    title = f"{images:,} images, {proposals} proposals each, {workers} workers"
    moments = [start, *report["moments"].values()]
    seconds = {"total": [moments[-1] - start]}
    for name, before, after in zip(report["moments"], moments, moments[1:], strict=False):
        seconds[name] = [after - before]
    comparisons = [BenchmarkResult(title, "s", seconds)]
    memory = report["memory"]
    if all(memory.values()):  # Linux only
        megabytes = {"all processes, shared pages once": [shared_once(memory.values()) / 1e6]}
        megabytes |= {name: [sizes["Rss"] / 1e6] for name, sizes in memory.items()}
        megabytes["trainer at its peak"] = [report["peak"] / 1e6]
        comparisons.append(BenchmarkResult(f"{title}, resident memory", "MB", megabytes))
    return comparisons


def measure_memory(images: int = 82783, proposals: int = 500, workers: int = 2) -> list[BenchmarkResult]:
    """Memory of the trainer and its loader workers with a hundredth, a tenth and all of the images.

    Args:
        images: images of the largest dataset
        proposals: proposals of each image
        workers: worker processes of the loader
    """
    megabytes = {}
    for count in (max(1, images // 100), max(1, images // 10), images):
        # Views and batches are small, because their memory does not depend on the dataset.
        options = ["INPUT.SIZES_TRAIN", "(64,)", "SOLVER.IMS_PER_BATCH", "8"]
        _, *memory = measure_startup(count, proposals, workers, options=options)
        if not memory:
            raise InputError("memory: only Linux reports the memory of a process; run it there")
        megabytes[f"{count:,} images"] = next(iter(memory[0].values.values()))
    return [BenchmarkResult(f"trainer and {workers} loader workers, {proposals} proposals per image", "MB", megabytes)]


def shared_once(processes: Collection[Mapping[str, int]]) -> int:
    """Return the memory in bytes of a process and its forks together. Pages of mapped files count once.

    Args:
        processes: sizes of each process, from :func:`benchmarks.startup_process.process_memory`.
    """
    files = max(memory["Rss"] - memory["Anonymous"] - memory["Pss_Shmem"] for memory in processes)
    return files + sum(memory["Pss_Anon"] + memory["Pss_Shmem"] for memory in processes)
