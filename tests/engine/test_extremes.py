"""Data that is odd but legal goes through the whole method: teacher, baseline, both stages of distillation."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from PIL import Image

from helpers.small_models import CONFIGS
from mlickd.data import dataset_records, write_store
from mlickd.distillation.cache import make_cache
from mlickd.engine import Trainer, check_inputs, complete_config, load_config
from mlickd.runs import load_run, predict


@dataclass
class Extreme:
    """A dataset of which each split has the same images.

    Attributes:
        sizes: width and height of each image.
        classes: number of classes.
        labels: classes of each image by number; without, image i has class i.
        proposals: number of proposals of each image.
        batch: number of images in a batch.
        options: options of all models.
    """

    sizes: tuple[tuple[int, int], ...] = ((40, 30), (30, 40), (33, 33))
    classes: int = 3
    labels: tuple[tuple[int, ...], ...] | None = None
    proposals: int = 6
    batch: int = 2
    options: tuple = ()

    def write(self, folder: Path) -> None:
        """Write a folder dataset, and proposals for it."""
        generator = np.random.default_rng(0)
        (folder / "images").mkdir(parents=True)
        names = [f"class{i}" for i in range(self.classes)]
        (folder / "classes.txt").write_text("\n".join(names))
        rows, items = ["file_name,labels"], []
        labels = self.labels or [(i % self.classes,) for i in range(len(self.sizes))]
        for i, ((width, height), of_image) in enumerate(zip(self.sizes, labels, strict=True)):
            pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
            rows.append(f"{i}.png,{';'.join(names[c] for c in of_image)}")
            corners = generator.random((self.proposals, 2, 2)).astype(np.float32)
            corners[..., 1, :] = corners[..., 0, :] + 0.1 + 0.9 * corners[..., 1, :] * (0.9 - 0.9 * corners[..., 0, :])
            boxes = (np.minimum(corners, 1) * np.float32([width, height])).reshape(-1, 4)
            items.append((f"{i}.png", boxes, generator.random(self.proposals, dtype=np.float32)))
        for split in ("train", "test"):
            (folder / f"labels_{split}.csv").write_text("\n".join(rows) + "\n")
        write_store(folder / "proposals", items, method="random", parameters={}, image_digest="test")


EXTREMES = {
    "a row and a column of pixels": Extreme(sizes=((3000, 1), (1, 3000))),
    "many proposals": Extreme(sizes=((40, 30),), proposals=2000, batch=1, options=("DATASETS.PROPOSALS.TOP_K", 2000)),
    "many classes": Extreme(sizes=((40, 30),), classes=500, batch=4),
    "every image has every label": Extreme(labels=((0, 1, 2),) * 3, batch=1),
    "one of each and no label": Extreme(sizes=((1, 1),), classes=1, labels=((),), proposals=1, batch=1),
}

SETTINGS = ["MODEL.VGG.DEPTH", 11, "MODEL.VGG.WIDTH", 0.1, "MODEL.VGG.NORM", "BN", "MODEL.ROI_BOX_HEAD.FC_DIM", 8]
SETTINGS += ["SOLVER.MAX_ITER", 1, "SOLVER.STEPS", (), "SOLVER.WARMUP_ITERS", 0, "DATALOADER.NUM_WORKERS", 0]
SETTINGS += ["INPUT.RANDOM_CROP.ENABLED", True, "INPUT.COLOR_JITTER.BRIGHTNESS", 1.0, "INPUT.SIZES_TRAIN", (32,)]
SETTINGS += ["INPUT.SIZE_TEST", 32]


def train(cfg: CfgNode) -> None:
    """Train and evaluate as the command does; nothing is NaN, and the model has learned something."""
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
    for line in (Path(cfg.OUTPUT_DIR) / "metrics.json").read_text().splitlines():
        assert all(math.isfinite(value) for key, value in json.loads(line).items() if "loss" in key or "lr" in key)


@pytest.mark.parametrize("title", EXTREMES)
def test_the_whole_method_trains_evaluates_and_predicts(
    title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    extreme = EXTREMES[title]
    extreme.write(tmp_path / "odd")

    def config(base: str, folder: str, *options: object, stage: str | None = None) -> CfgNode:
        stores = (str(tmp_path / "odd" / "proposals"),)
        data = ["DATASETS.TRAIN", ("odd_train",), "DATASETS.TEST", ("odd_test",), "OUTPUT_DIR", str(tmp_path / folder)]
        data += ["DATASETS.PROPOSALS.TRAIN_FILES", stores, "DATASETS.PROPOSALS.TEST_FILES", stores]
        options = [*SETTINGS, *data, "SOLVER.IMS_PER_BATCH", extreme.batch, *options, *extreme.options]
        cfg = load_config(str(CONFIGS / base), options, stage)
        complete_config(cfg)
        check_inputs(cfg)
        cfg.freeze()
        return cfg

    train(config("Base-WSD.yaml", "teacher"))
    train(config("Base-Classifier.yaml", "baseline"))
    student = ["MODEL.META_ARCHITECTURE", "DistilledClassifier", "KD.FEATURE.WEIGHT", 0.01]
    student += ["KD.TEACHER.WEIGHTS", str(tmp_path / "teacher" / "model_final.pth")]
    train(config("Base-Classifier.yaml", "distilled", *student, stage="feature"))
    caching = config("Base-Classifier.yaml", "distilled", *student, stage="prediction").clone()
    caching.merge_from_list(["KD.CACHE", str(tmp_path / "cache")])
    make_cache(caching)
    student += ["KD.CACHE", str(tmp_path / "cache")]
    train(config("Base-Classifier.yaml", "cached", *student, stage="feature"))
    train(config("Base-Classifier.yaml", "distilled", *student, stage="prediction"))
    for run in ("teacher", "baseline", "distilled/prediction"):
        cfg, model = load_run(str(tmp_path / run))
        outputs = predict(cfg, model, dataset_records("odd_test"), "odd_test")
        assert len(outputs) == len(extreme.sizes)
        for output in outputs.values():
            scores = output["image_scores"]
            assert scores.shape == (extreme.classes,) and ((scores >= 0) & (scores <= 1)).all()
        assert "multilabel" in json.loads((tmp_path / run / "results.json").read_text())
