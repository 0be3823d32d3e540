"""The command line `tools/gpu_check.py`: training runs that check and measure a device."""

import gc
import logging
import math
import os
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from detectron2.config import CfgNode
from detectron2.engine.hooks import PeriodicCheckpointer
from tabulate import tabulate
from torch.utils.flop_counter import FlopCounterMode

from mlickd.cli.command_line import command_parser, positive_int, typed_command
from mlickd.distillation.cache import make_cache
from mlickd.engine import Trainer
from mlickd.engine.hooks import SaveStudentHook
from mlickd.environment import machine_line
from mlickd.errors import InputError
from mlickd.files import write_json

from .settings import TrainingStep, network_config, write_run
from .synthetic import write_synthetic_coco

EXAMPLE = "example:\n  python tools/gpu_check.py --output output/gpu_check.json\n"
# Kind of configuration, stage, and whether the run reads the knowledge cache.
RUNS = {
    "teacher": ("wsd", None, False),
    "stage 1, live teacher": ("kd", "feature", False),
    "stage 1, knowledge cache": ("kd", "feature", True),
    "stage 2, live teacher": ("kd", "prediction", False),
    "stage 2, knowledge cache": ("kd", "prediction", True),
}
# Largest relative difference between the first loss and the CPU's in float32. By default, cuDNN convolves float32 in
# TF32, which has as many digits as float16.
TOLERANCES = {"float32": 0.01, "bfloat16": 0.05, "float16": 0.01}
_DATASET = "coco_2014_train_multilabel"
_COMPARED_IMAGES = 2
_SMALL_NETWORK = {"MODEL__VGG__DEPTH": 11, "MODEL__VGG__WIDTH": 0.1, "INPUT__SIZE_TEST": 96}
_SMALL_NETWORK |= {"MODEL__ROI_BOX_HEAD__FC_DIM": 32, "MODEL__CLASSIFIER__FC_DIM": 32}


class DeviceRuns:
    """Training runs with random weights and synthetic data, whose files are in DETECTRON2_DATASETS."""

    def __init__(self, device: str, quick: bool):
        self.device, self.quick = device, quick
        self.folder = Path(os.environ["DETECTRON2_DATASETS"])
        self.batch_size = 2 if quick else 16

    def prepare(self) -> dict[str, float]:
        """Draw data of COCO's shape and write a teacher with random weights. Return the speed of making its cache."""
        images, proposals = (8, 20) if self.quick else (128, 500)
        write_synthetic_coco(self.folder, images, proposals)
        torch.manual_seed(1)  # the students start from seed 0
        write_run(self.config("teacher", MODEL__DEVICE="cpu"), self.folder / "teacher")
        start = time.perf_counter()
        make_cache(self.config("stage 1, knowledge cache"), mirrored=False)  # mirrored views are read at the same speed
        return {"images/s": images / (time.perf_counter() - start)}

    def config(self, run: str, precision: str = "float32", **options: Any) -> CfgNode:
        """Return the configuration of one of `RUNS`."""
        kind, stage, cached = RUNS[run]
        values = {"MODEL__DEVICE": self.device, "OUTPUT_DIR": str(self.folder / "run"), "TENSORBOARD__IMAGES": 0}
        values |= {"DATASETS__TRAIN": (_DATASET,), "DATASETS__TEST": (_DATASET,), "TEST__CORLOC_IMAGES": 0}
        values |= {"SOLVER__AMP__ENABLED": precision != "float32", "SOLVER__IMS_PER_BATCH": self.batch_size}
        values["SOLVER__AMP__DTYPE"] = "bfloat16" if precision == "float32" else precision
        values["DATALOADER__NUM_WORKERS"] = 0 if self.quick else min(8, os.cpu_count() or 1)
        values |= _SMALL_NETWORK if self.quick else {}
        if stage:
            values["KD__TEACHER__WEIGHTS"] = str(self.folder / "teacher" / "model_final.pth")
        if cached:
            values["KD__CACHE"] = str(self.folder / "knowledge")
        cfg = network_config("vgg16", kind, stage, **(values | options))
        cfg.DATASETS.TEST = ()  # the runs do not evaluate
        return cfg

    def first_step(self, run: str, precision: str, device: str) -> tuple[float, torch.Tensor]:
        """Return the loss and the gradient of the first step without dropout, which differs between devices."""
        torch.manual_seed(0)
        options = {"SOLVER__IMS_PER_BATCH": _COMPARED_IMAGES, "DATALOADER__NUM_WORKERS": 0}
        options |= {"MODEL__ROI_BOX_HEAD__DROPOUT": 0.0, "MODEL__CLASSIFIER__DROPOUT": 0.0}
        if not RUNS[run][2]:
            # All regions, because rounding may change which regions a live teacher selects.
            options |= {"KD__REGIONS__NMS_THRESH": 1.0, "KD__REGIONS__TOP_K": 0}
        step = TrainingStep(self.config(run, precision, MODEL__DEVICE=device, **options))
        step()
        gradients = [p.grad.flatten().cpu() for p in step.trainer.model.parameters() if p.grad is not None]
        return step.trainer.storage.latest()["total_loss"][0], torch.cat(gradients)

    def train(self, run: str, precision: str, iterations: int) -> dict[str, float]:
        """Train, and return speed, memory and losses. The first tenth of the iterations is not timed."""
        torch.manual_seed(0)
        trainer = Trainer(self.config(run, precision, SOLVER__MAX_ITER=iterations))
        # Do not write checkpoints, which have up to a gigabyte.
        trainer._hooks = [h for h in trainer._hooks if not isinstance(h, (SaveStudentHook, PeriodicCheckpointer))]
        if self.device != "cpu":
            torch.cuda.reset_peak_memory_stats(self.device)
        trainer.train()
        history = {name: [value for value, _ in kept.values()] for name, kept in trainer.storage.histories().items()}
        timed = max(1, iterations * 9 // 10)
        seconds, data_seconds = (statistics.mean(history[name][-timed:]) for name in ("time", "data_time"))
        return {
            "images/s": self.batch_size / seconds,
            "data and teacher": data_seconds / seconds,
            "GB": torch.cuda.max_memory_allocated(self.device) / 1e9 if self.device != "cpu" else math.nan,
            "first loss": history["total_loss"][0],
            "last loss": history["total_loss"][-1],
        }

    def resume(self, precision: str, half: int) -> dict[str, float]:
        """Train stage 2 for ``2 * half`` iterations: twice without a stop, and once with a stop and a resume.

        Returns:
            The largest differences between the parameters of the first run and of the others. On a CPU, they are 0.
        """

        def train(folder: str, end: int = 2 * half, resume: bool = False) -> dict[str, torch.Tensor]:
            torch.manual_seed(0)
            options = {"SOLVER__MAX_ITER": 2 * half, "SOLVER__STEPS": (), "SOLVER__CHECKPOINT_PERIOD": half}
            # With global pooling, checkpoints are small.
            options |= {"MODEL__CLASSIFIER__POOLING": "average", "OUTPUT_DIR": str(self.folder / precision / folder)}
            trainer = Trainer(self.config("stage 2, knowledge cache", precision, **options))
            trainer.max_iter = end
            if resume:
                trainer.resume_or_load(resume=True)
            trainer.train()
            return {name: value.cpu().clone() for name, value in trainer.model.state_dict().items()}

        whole, repeated, _ = train("whole"), train("repeated"), train("stopped", end=half)
        others = {"resumed": train("stopped", resume=True), "repeated": repeated}
        return {key: max(float((w[n] - whole[n]).abs().max()) for n in whole) for key, w in others.items()}


def matmul_speed(device: str, size: int) -> float:
    """Return the operations per second of products of square bfloat16 matrices."""
    matrix = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    for count in (3, 10):  # the first products are a warm-up
        start = time.perf_counter()
        for _ in range(count):
            product = matrix @ matrix
        product[0, 0].item()  # waits for the device
    return 2 * size**3 * count / (time.perf_counter() - start)


def main(description: str) -> None:
    """Check a device. Write the report after each run, print the table, and exit with status 1 if a run has failed.

    Raises:
        InputError: the device is not available.
    """
    parser = command_parser(description, EXAMPLE)
    parser.add_argument("--device", metavar="NAME", help="cuda, cuda:N or cpu (default: cuda if PyTorch finds a GPU)")
    parser.add_argument("--quick", action="store_true", help="a small network and few images, to test this check")
    iterations_help = "iterations of a run (default: %(default)s)"
    parser.add_argument("--iterations", type=positive_int, default=100, metavar="N", help=iterations_help)
    output_help = "file for the report (default: %(default)s)"
    parser.add_argument("--output", type=Path, default="output/gpu_check.json", metavar="FILE", help=output_help)
    args = parser.parse_args()
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device != "cpu" and not torch.cuda.is_available():
        raise InputError(f"--device {device}: PyTorch finds no GPU; give cpu, or install PyTorch with CUDA")
    precisions = [name for name in TOLERANCES if device != "cpu" or name != "float16"]  # float16 needs CUDA
    logging.getLogger("mlickd").setLevel(logging.ERROR)  # hides warnings about classes without images
    speed = matmul_speed(device, 256 if args.quick else 8192)
    name = torch.cuda.get_device_name(device) if device != "cpu" else "CPU"
    report = {"device": name, "machine": machine_line(), "command": typed_command(), "iterations": args.iterations}
    report |= {"bfloat16 TFLOP/s of matrix products": speed / 1e12, "rows": []}

    def attempt(run: str, precision: str, *calls: Callable[[], dict]) -> None:
        """Add a row with the results of the calls or the problem, and write the report."""
        report["rows"].append(row := {"run": run, "precision": precision})
        for call in calls:
            try:
                row |= call()
            except Exception as error:  # the other runs still have to run
                traceback.print_exc()
                row["problem"] = f"{type(error).__name__}: {error}".splitlines()[0]
        gc.collect()  # frees the memory of the GPU
        write_json(args.output, report)
        print(tabulate([row], "keys", "plain", floatfmt=".4g"), flush=True)

    @cache
    def cpu_step(run: str) -> tuple[float, torch.Tensor, int]:
        """Return the loss, the gradient and the number of operations of the first step on the CPU in float32."""
        with FlopCounterMode(display=False) as counter:
            loss, gradient = runs.first_step(run, "float32", "cpu")
        return loss, gradient, counter.get_total_flops()

    def compare(run: str, precision: str) -> dict:
        """Return the relative differences of the first step from the CPU's in float32."""
        expected = cpu_step(run)
        loss, gradient = runs.first_step(run, precision, device)
        gradient_difference = float((gradient - expected[1]).norm() / expected[1].norm())
        row = {"loss to CPU": abs(loss / expected[0] - 1), "gradient to CPU": gradient_difference}
        is_near = row["loss to CPU"] <= TOLERANCES[precision]
        return row if is_near else row | {"problem": f"first loss {loss:.6g}, but {expected[0]:.6g} on the CPU"}

    def train(run: str, precision: str) -> dict:
        row, operations = runs.train(run, precision, args.iterations), cpu_step(run)[2]
        return row | {"of matrix products": row["images/s"] * operations / _COMPARED_IMAGES / speed}

    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, DETECTRON2_DATASETS=folder):
        runs = DeviceRuns(device, args.quick)
        attempt("knowledge cache, with its start", "float32", runs.prepare)
        for run in RUNS:
            for precision in precisions:
                attempt(run, precision, partial(compare, run, precision), partial(train, run, precision))
            cpu_step.cache_clear()  # a gradient has half a gigabyte
        for precision in precisions:
            attempt("stop and resume", precision, partial(runs.resume, precision, max(2, args.iterations // 10)))
    print(f"{tabulate(report['rows'], 'keys', floatfmt='.4g')}\nwritten to {args.output}", flush=True)
    if any("problem" in row for row in report["rows"]):
        raise SystemExit(1)
