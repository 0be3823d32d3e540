"""Duration of the baseline's training, compared with a plain script with timm, torchvision and PyTorch."""

import json
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from functools import partial

from mlickd.data import class_names, dataset_records
from mlickd.data.records import label_targets
from mlickd.errors import InputError

from .measurement import BenchmarkResult, time_interleaved
from .settings import CONFIGS, TEST, TRAIN, module_environment, synthetic_datasets


def measure_training(
    dataset: str = "", iterations: int = 200, workers: int = 2, repetitions: int = 3
) -> list[BenchmarkResult]:
    """Seconds of the command that trains the baseline of configs/folder, and of a plain script with the same schedule.

    Both start from random weights, read the same photos, save the network and predict the test photos. The start of
    Python is included.

    Args:
        dataset: folder dataset with the splits train and test (default: synthetic images)
        iterations: iterations of 16 photos
        workers: worker processes of the loader
        repetitions: timed repetitions
    """
    with nullcontext() if dataset else synthetic_datasets(64, proposals=False), tempfile.TemporaryDirectory() as output:
        names = [f"{dataset}_{split}" for split in ("train", "test")] if dataset else [TRAIN, TEST]
        rows = json.dumps([_rows(name) for name in names])
        plain = ["-m", "benchmarks.plain_training", iterations, workers, f"{output}/plain.pth"]
        options = ["DATASETS.TRAIN", f"('{names[0]}',)", "DATASETS.TEST", f"('{names[1]}',)"]
        options += ["SOLVER.MAX_ITER", iterations, "MODEL.BACKBONE.WEIGHTS", "", "MODEL.DEVICE", "cpu"]
        options += ["DATALOADER.NUM_WORKERS", workers, "OUTPUT_DIR", f"{output}/run"]
        command = ["-m", "mlickd", "train", "--config-file", CONFIGS / "folder" / "cls.yaml", *options]
        calls = {"plain script": partial(_run, plain, rows), "mlickd train": partial(_run, command)}
        return [
            time_interleaved(f"{dataset or 'synthetic images'}, {iterations} iterations", calls, repetitions, warm_up=0)
        ]


def _rows(dataset: str) -> list[tuple[str, list[float]]]:
    records = dataset_records(dataset, boxes=False)
    targets = label_targets(records, len(class_names(dataset))).tolist()
    return [(record["file_name"], row) for record, row in zip(records, targets, strict=True)]


def _run(command: list, text: str = "") -> None:
    arguments = [sys.executable, *map(str, command)]
    options = {"env": module_environment(), "capture_output": True, "encoding": "utf-8", "check": False}
    process = subprocess.run(arguments, input=text, **options)
    if process.returncode:
        raise InputError(f"training: {command[1]} failed: {process.stderr.strip().splitlines()[-1]}")
