"""The summary after a training run: model, files and the next command."""

import argparse
import os
import shlex
import textwrap
from datetime import timedelta
from pathlib import Path

from detectron2.config import CfgNode

from mlickd.config_files import split_config_files
from mlickd.data.build import model_class
from mlickd.environment import in_torchrun
from mlickd.runs import STUDENT_CHECKPOINT

_WIDTH = 79
_LABEL_WIDTH = 11


def training_summary(cfg: CfgNode, *, seconds: float, first_iteration: int, parameters: int, command: str) -> str:
    """Return the summary of a finished training.

    Args:
        cfg: configuration of the training.
        seconds: duration of the training.
        first_iteration: first iteration; above 0 for a resumed run.
        parameters: number of trained parameters.
        command: next command.
    """
    model, solver = model_class(cfg), cfg.SOLVER
    title = "Teacher" if model.is_detector else "Baseline"
    if model.student_architecture:
        title = f"Distilled student, stage {cfg.KD.STAGE}"
    count = f"iterations {first_iteration} to {solver.MAX_ITER}" if first_iteration else f"{solver.MAX_ITER} iterations"
    images = f"{solver.IMS_PER_BATCH} images of {', '.join(cfg.DATASETS.TRAIN)}"
    trained = f"{count} of {images} in {timedelta(seconds=round(seconds))}; {parameters / 1e6:.2f} million parameters"
    lines = ["", title, "-" * _WIDTH, *_entry("trained", trained)]
    return "\n".join([*lines, *_files(cfg), f"{'next':<{_LABEL_WIDTH}}{command}", ""])


def next_command(cfg: CfgNode, args: argparse.Namespace) -> str:
    """Return the next command: a distillation after a teacher, stage 2 after stage 1, or else a prediction.

    ``cfg`` and ``args`` are the configuration and the command line of the training.
    """
    train = ["mlickd", "train", "--config-file"]
    if model_class(cfg).is_detector:
        weights = os.path.join(cfg.OUTPUT_DIR, "model_final.pth")
        return shlex.join([*train, "KD_FILE", "--kd-stage", "STAGE", "KD.TEACHER.WEIGHTS", weights])
    if cfg.KD.STAGE == "feature":
        # The configuration in the folder of a resumed run has the folder and schedule of stage 1.
        own = os.path.abspath(os.path.join(cfg.OUTPUT_DIR, "config.yaml"))
        is_resumed = own in map(os.path.abspath, split_config_files(args.config_file))
        if is_resumed or in_torchrun() or args.num_machines > 1:  # each machine has its own command
            return "repeat the first command of stage 1, with --kd-stage prediction and without MODEL.WEIGHTS"
        processes = [] if args.num_gpus == 1 else ["--num-gpus", str(args.num_gpus)]
        pairs = zip(args.opts[::2], args.opts[1::2], strict=False)
        # Stage 2 starts from the result of stage 1, so it must not have the initial weights of stage 1.
        others = [item for pair in pairs if pair[0] != "MODEL.WEIGHTS" for item in pair]
        return shlex.join([*train, args.config_file, "--kd-stage", "prediction", *processes, *others])
    return shlex.join(["mlickd", "predict", "PHOTOS", "--model", cfg.OUTPUT_DIR])


def _files(cfg: CfgNode) -> list[str]:
    folder = Path(cfg.OUTPUT_DIR)
    contents = {
        STUDENT_CHECKPOINT: "start of stage 2" if cfg.KD.STAGE == "feature" else "the student, for prediction",
        "model_final.pth": "all trained weights" if (folder / STUDENT_CHECKPOINT).is_file() else "the model",
        "config.yaml": "the configuration",
        "inference": "scores of the test images, metrics of each class",
        "log.txt": "the log",
        "metrics.json": "losses and metrics during training",
    }
    lines = [f"{'':<{_LABEL_WIDTH}}  {name:<17}{text}" for name, text in contents.items() if (folder / name).exists()]
    return [*_entry("files", f"in {folder}"), *lines]


def _entry(label: str, text: str) -> list[str]:
    text, indent = f"{label:<{_LABEL_WIDTH}}{text}", " " * _LABEL_WIDTH
    return textwrap.wrap(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
