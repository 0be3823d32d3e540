"""Training runs that check and measure a device."""

import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine.hooks import PeriodicCheckpointer
from torch.utils.flop_counter import FlopCounterMode

from mlickd.distillation.cache import make_cache
from mlickd.engine import Trainer
from mlickd.engine.hooks import SaveStudentHook

from .settings import TrainingStep, network_config, write_run
from .synthetic import write_synthetic_coco

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
_NO_DROPOUT = {"MODEL__ROI_BOX_HEAD__DROPOUT": 0.0, "MODEL__CLASSIFIER__DROPOUT": 0.0}
_SMALL_NETWORK = {"MODEL__VGG__DEPTH": 11, "MODEL__VGG__WIDTH": 0.1, "INPUT__SIZE_TEST": 96}
_SMALL_NETWORK |= {"MODEL__ROI_BOX_HEAD__FC_DIM": 32, "MODEL__CLASSIFIER__FC_DIM": 32}


@dataclass
class DeviceRuns:
    """Training runs with random weights and synthetic data.

    Attributes:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        folder: folder of all files; callers set DETECTRON2_DATASETS to it.
        batch_size: number of images in a batch.
        workers: number of worker processes of the loader.
        small: use a small network instead of VGG16 at the sizes of the paper.
    """

    device: str
    folder: Path
    batch_size: int
    workers: int
    small: bool

    def prepare(self) -> dict[str, float]:
        """Draw data of COCO's shape and write a teacher with random weights. Return the speed of making its cache."""
        images, proposals = (8, 20) if self.small else (128, 500)
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
        values |= {"SOLVER__IMS_PER_BATCH": self.batch_size, "DATALOADER__NUM_WORKERS": self.workers}
        if precision != "float32":
            values |= {"SOLVER__AMP__ENABLED": True, "SOLVER__AMP__DTYPE": precision}
        if self.small:
            values |= _SMALL_NETWORK
        if stage:
            teacher = str(self.folder / "teacher" / "model_final.pth")
            # Stage 2 requires MODEL.WEIGHTS, but the runs do not load them.
            values |= {"KD__TEACHER__WEIGHTS": teacher, "MODEL__WEIGHTS": teacher}
        if cached:
            values["KD__CACHE"] = str(self.folder / "knowledge")
        cfg = network_config("vgg16", kind, stage, **(values | options))
        cfg.DATASETS.TEST = ()  # the runs do not evaluate
        return cfg

    def first_step(self, run: str, precision: str, device: str) -> tuple[float, torch.Tensor]:
        """Return the loss and the gradient of the first step without dropout, which differs between devices."""
        torch.manual_seed(0)
        options = {"SOLVER__IMS_PER_BATCH": _COMPARED_IMAGES, "DATALOADER__NUM_WORKERS": 0, **_NO_DROPOUT}
        if not RUNS[run][2]:
            # All regions, because rounding may change which regions a live teacher selects.
            options |= {"KD__REGIONS__NMS_THRESH": 1.0, "KD__REGIONS__TOP_K": 0}
        step = TrainingStep(self.config(run, precision, MODEL__DEVICE=device, **options))
        step()
        gradients = [p.grad.flatten().cpu() for p in step.trainer.model.parameters() if p.grad is not None]
        return step.trainer.storage.latest()["total_loss"][0], torch.cat(gradients)

    def reference(self, run: str) -> tuple[tuple[float, torch.Tensor], float]:
        """Return :meth:`first_step` on the CPU in float32, and the floating-point operations of a step per image."""
        with FlopCounterMode(display=False) as counter:
            step = self.first_step(run, "float32", "cpu")
        return step, counter.get_total_flops() / _COMPARED_IMAGES

    def compare(self, run: str, precision: str, expected: tuple[float, torch.Tensor]) -> dict[str, float | str | None]:
        """Return the relative differences between the first step and ``expected``, and a problem if they are large.

        The difference of the gradient is None if float16 overflows, which skips the step.
        """
        loss, gradient = self.first_step(run, precision, self.device)
        differences = abs(loss / expected[0] - 1), float((gradient - expected[1]).norm() / expected[1].norm())
        row = dict(zip(("loss to CPU", "gradient to CPU"), differences, strict=True))
        if not math.isfinite(differences[1]):
            row["gradient to CPU"] = None
        if differences[0] > TOLERANCES[precision]:
            row["problem"] = f"the first loss is {loss:.6g}, but {expected[0]:.6g} on the CPU"
        return row

    def train(self, run: str, precision: str, iterations: int) -> dict[str, float | None]:
        """Train, and return speed, memory and losses. The first tenth of the iterations is not timed."""
        torch.manual_seed(0)
        trainer = Trainer(self.config(run, precision))
        trainer.max_iter = iterations
        # Do not write checkpoints, which have up to a gigabyte.
        trainer._hooks = [h for h in trainer._hooks if not isinstance(h, (SaveStudentHook, PeriodicCheckpointer))]
        if self.device != "cpu":
            torch.cuda.reset_peak_memory_stats(self.device)
        trainer.train()
        history = {name: [value for value, _ in kept.values()] for name, kept in trainer.storage.histories().items()}
        timed = max(1, min(len(history["time"]), iterations * 9 // 10))
        seconds, data_seconds = (statistics.mean(history[name][-timed:]) for name in ("time", "data_time"))
        return {
            "images/s": self.batch_size / seconds,
            "data and teacher": data_seconds / seconds,
            "GB": torch.cuda.max_memory_allocated(self.device) / 1e9 if self.device != "cpu" else None,
            "first loss": history["total_loss"][0],
            "last loss": history["total_loss"][-1],
        }

    def resume(self, precision: str, half: int) -> dict[str, float]:
        """Train stage 2 for ``2 * half`` iterations: twice without a stop, and once with a stop and a resume.

        The student pools globally, so that its checkpoints are small.

        Returns:
            The largest differences between the parameters of the first run and of the others.

        Raises:
            RuntimeError: the run does not resume, or a resumed run on the CPU ends with other parameters.
        """

        def train(folder: str, start: int = 0, end: int = 2 * half) -> dict[str, torch.Tensor]:
            torch.manual_seed(0)
            options = {"SOLVER__MAX_ITER": 2 * half, "SOLVER__STEPS": (), "SOLVER__CHECKPOINT_PERIOD": half}
            options |= {"MODEL__CLASSIFIER__POOLING": "average", "OUTPUT_DIR": str(self.folder / precision / folder)}
            trainer = Trainer(self.config("stage 2, knowledge cache", precision, **options))
            trainer.max_iter = end
            if start:
                trainer.resume_or_load(resume=True)
            if trainer.start_iter != start:
                raise RuntimeError(f"the resumed run starts from iteration {trainer.start_iter} instead of {start}")
            trainer.train()
            return {name: value.cpu().clone() for name, value in trainer.model.state_dict().items()}

        whole, repeated = train("whole"), train("repeated")
        train("stopped", end=half)
        others = {"resumed": train("stopped", start=half), "repeated": repeated}
        found = {key: max(float((w[n] - whole[n]).abs().max()) for n in whole) for key, w in others.items()}
        if self.device == "cpu" and found["resumed"] > 0:
            raise RuntimeError(f"parameters of the resumed run differ by up to {found['resumed']:.3g}")
        return found


def matmul_peak(device: str, precision: str, size: int) -> float:
    """Return the TFLOP/s of products of square matrices, for float32 in TF32 if the device has it."""
    torch.set_float32_matmul_precision("high")
    matrix = torch.randn(size, size, device=device, dtype=getattr(torch, precision))
    for count in (3, 10):  # the first products are a warm-up
        start = time.perf_counter()
        for _ in range(count):
            product = matrix @ matrix
        product[0, 0].item()  # waits for the device
        seconds = time.perf_counter() - start
    torch.set_float32_matmul_precision("highest")  # PyTorch's default
    return 2 * size**3 * count / seconds / 1e12
