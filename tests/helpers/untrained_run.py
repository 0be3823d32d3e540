"""Runs of small models with random weights, and held-out images for them."""

import json
import shutil
from pathlib import Path

import torch
from detectron2.modeling import build_model

from helpers.small_models import small_config
from mlickd.data.scenes import CATEGORY_NAMES
from mlickd.files import file_digest
from mlickd.runs import run_config, write_class_names
from mlickd.thresholds import ClassThresholds, write_thresholds


def split_tiny_scenes(tiny_scenes: Path, root: Path) -> Path:
    """Copy the tiny scenes below a root, where `tiny_fit` and `tiny_val` share the images of `tiny_train`."""
    shutil.copytree(tiny_scenes / "tiny", root / "tiny")
    header, *rows = (root / "tiny" / "labels_train.csv").read_text().splitlines()
    for split, part in (("fit", rows[:8]), ("val", rows[8:])):
        (root / "tiny" / f"labels_{split}.csv").write_text("\n".join([header, *part]) + "\n")
    return root


def write_untrained_run(folder: Path, seed: int = 0, config: str = "Base-Classifier", *options: object) -> Path:
    """Write a run on `tiny_fit` that is tested on `tiny_test`, with TEST.THRESHOLD 0.4, and return its folder."""
    run = ["DATASETS.TRAIN", ("tiny_fit",), "DATASETS.TEST", ("tiny_test",), "MODEL.NUM_CLASSES", 20]
    cfg = small_config(config, *run, "INPUT.SIZE_TEST", 32, "TEST.THRESHOLD", 0.4, *options)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(cfg.dump())
    data = {"name": "tiny_fit", "images": 8, "sha256": "0" * 64, "labeled": True, "unknown_labels": 0}
    (folder / "training_data.json").write_text(json.dumps([data]))
    save_random_checkpoint(folder, seed)
    return folder


def write_untrained_teacher(folder: Path) -> Path:
    """Write a teacher without stored proposals, and return its folder."""
    options = ["MODEL.BACKBONE.WEIGHTS", "", "INPUT.SIZE_TEST", 64, "DATASETS.PROPOSALS.TOP_K", 30]
    write_untrained_run(folder, 0, "Base-WSD", *options)
    write_class_names(folder, CATEGORY_NAMES)
    return folder


def write_run_thresholds(run: Path, names: list[str], thresholds: list[float]) -> None:
    """Write thresholds of the classes for the final checkpoint of a run."""
    count, digest = len(names), file_digest(run / "model_final.pth")
    source = ("tiny_val", 16, "0", "model_final.pth", digest)
    tuned = ClassThresholds(names, thresholds, [0.5] * count, [1] * count, 0.5, *source)
    write_thresholds(tuned, str(run / "thresholds.json"))


def save_random_checkpoint(run: Path, seed: int) -> None:
    """Write the checkpoint of a run, with random weights. Its scores differ between images."""
    cfg = run_config(run)
    torch.manual_seed(seed)
    model = build_model(cfg)
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter) * 0.1
    torch.save({"model": model.state_dict()}, cfg.MODEL.WEIGHTS)
