"""Trainings without the weight of the teacher, and with unknown labels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from helpers.cached_scenes import CachedScenes
from helpers.small_trainer import final_config, finish
from mlickd.data import build_train_loader
from mlickd.engine import Trainer

SCHEDULE = ["SOLVER.MAX_ITER", 3, "SOLVER.STEPS", (), "SOLVER.WARMUP_ITERS", 0, "DATALOADER.NUM_WORKERS", 0]


def trained(scenes: CachedScenes, output: Path, stage: str, *options: object) -> dict[str, torch.Tensor]:
    cfg = scenes.config(stage, "", *SCHEDULE, "OUTPUT_DIR", str(output), "DATASETS.TEST", (), *options)
    cfg.freeze()
    torch.manual_seed(0)
    return finish(Trainer(cfg))


def test_without_the_weight_of_the_teacher_the_student_is_the_baseline(scenes: CachedScenes, tmp_path: Path) -> None:
    settings = ["KD.PREDICTION.WEIGHT", 0.0, "KD.TEACHER.WEIGHTS", "no teacher is read"]
    student = trained(scenes, tmp_path / "student", "prediction", *settings)
    baseline = trained(scenes, tmp_path / "baseline", "", "MODEL.META_ARCHITECTURE", "MultiLabelClassifier")
    assert len(baseline) > 5
    assert all(torch.equal(student[f"student.{name}"], value) for name, value in baseline.items())


def test_unknown_labels_add_nothing_to_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    images = tmp_path / "pets" / "images"
    images.mkdir(parents=True)
    for name in ("a.png", "b.png"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(images / name)
    (tmp_path / "pets" / "classes.txt").write_text("cat\ndog\n")
    table = tmp_path / "pets" / "labels_train.csv"
    table.write_text("file_name,cat,dog\na.png,1,-1\nb.png,-1,-1\n")
    data = ["DATASETS.TRAIN", ("pets_train",), "DATASETS.TEST", ("pets_train",), "INPUT.SIZES_TRAIN", (32,)]
    options = [*data, "SOLVER.IMS_PER_BATCH", 2, "DATALOADER.NUM_WORKERS", 0, "MODEL.VGG.DEPTH", 11]
    cfg = final_config("Base-Classifier.yaml", *options, "MODEL.VGG.WIDTH", 0.1)
    model = build_model(cfg)
    sum(model(next(iter(build_train_loader(cfg)))).values()).backward()
    cat, dog = model.head.linear.bias.grad.tolist()
    assert cat < 0 and dog == 0
