"""Teacher, baseline and both stages of distillation work on unusual but valid data."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from PIL import Image

from helpers.cached_scenes import write_random_boxes
from helpers.small_models import SMALL
from helpers.small_trainer import final_config
from mlickd.data import dataset_records
from mlickd.engine import Trainer, check_inputs
from mlickd.runs import load_run, predict

SETTINGS = [*SMALL, "MODEL.VGG.NORM", "BN", "SOLVER.MAX_ITER", 1, "SOLVER.STEPS", (), "SOLVER.WARMUP_ITERS", 0]
SETTINGS += ["INPUT.RANDOM_CROP.ENABLED", True, "INPUT.SIZES_TRAIN", (32,)]
SETTINGS += ["INPUT.SIZE_TEST", 32, "DATASETS.PROPOSALS.TOP_K", 2000, "KD.FEATURE.WEIGHT", 0.01]
SETTINGS += ["DATASETS.TRAIN", ("odd_train",), "DATASETS.TEST", ("odd_test",)]


def write_dataset(folder: Path, sizes: list, labels: list, classes: int, proposals: int) -> None:
    """Write a folder dataset with the same images (width, height) in both splits, and random proposals for each."""
    generator = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "classes.txt").write_text("\n".join(f"class{i}" for i in range(classes)))
    rows = ["file_name,labels"]
    for i, ((width, height), image_labels) in enumerate(zip(sizes, labels, strict=True)):
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        rows.append(f"{i}.png,{';'.join(f'class{c}' for c in image_labels)}")
    for split in ("train", "test"):
        (folder / f"labels_{split}.csv").write_text("\n".join(rows) + "\n")
    write_random_boxes(folder / "proposals", "odd_train", seed=1, counts=(proposals, proposals + 1))


def train(cfg: CfgNode) -> None:
    """Train and evaluate like the command, and check that the parameters change and stay finite."""
    Path(cfg.OUTPUT_DIR).mkdir(parents=True)
    (Path(cfg.OUTPUT_DIR) / "config.yaml").write_text(cfg.dump())
    torch.manual_seed(0)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    after = trainer.model.state_dict()
    assert all(value.isfinite().all() for value in after.values())
    assert any(not torch.equal(value, before[name]) for name, value in after.items() if "conv" in name)


@pytest.mark.parametrize(
    ("sizes", "labels", "classes", "proposals", "batch"),
    [
        ([(3000, 1), (1, 3000), (40, 30)], [(0,), (1,), (0, 1)], 2, 6, 2),
        ([(40, 30)], [()], 500, 2000, 4),
        ([(1, 1)], [()], 1, 1, 1),
    ],
    ids=["a row and a column of pixels", "many classes and proposals", "one of each and no label"],
)
def test_the_whole_method(sizes, labels, classes: int, proposals: int, batch: int, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    write_dataset(tmp_path / "odd", sizes, labels, classes, proposals)
    stores = (str(tmp_path / "odd" / "proposals"),)

    def config(base: str, folder: str, *options: object, stage: str | None = None) -> CfgNode:
        data = ["DATASETS.PROPOSALS.TRAIN_FILES", stores, "DATASETS.PROPOSALS.TEST_FILES", stores]
        data += ["OUTPUT_DIR", str(tmp_path / folder), "SOLVER.IMS_PER_BATCH", batch]
        cfg = final_config(base, *SETTINGS, *data, *options, stage=stage)
        check_inputs(cfg)
        return cfg

    train(config("Base-WSD.yaml", "teacher"))
    train(config("Base-Classifier.yaml", "baseline"))
    student = ["MODEL.META_ARCHITECTURE", "DistilledClassifier"]
    student += ["KD.TEACHER.WEIGHTS", str(tmp_path / "teacher" / "model_final.pth")]
    for stage in ("feature", "prediction"):
        train(config("Base-Classifier.yaml", "distilled", *student, stage=stage))
    for run in ("teacher", "baseline", "distilled/prediction"):
        cfg, model = load_run(str(tmp_path / run))
        outputs = predict(cfg, model, dataset_records("odd_test"), "odd_test")
        assert len(outputs) == len(sizes)
        for output in outputs.values():
            assert output["image_scores"].shape == (classes,)
            assert ((output["image_scores"] >= 0) & (output["image_scores"] <= 1)).all()
        assert "multilabel" in json.loads((tmp_path / run / "results.json").read_text())
