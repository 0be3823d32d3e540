"""Data that is odd but legal goes through the whole method: teacher, plain student, both stages of distillation."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
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
    """A dataset with the same images in each split, and the size of its batches.

    Attributes:
        sizes: width and height of each image.
        classes: number of classes.
        labels: class indices of each image; None gives image i the class i.
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
        """Write the folder dataset and its proposals."""
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
    "photos of one pixel": Extreme(sizes=((1, 1), (1, 1))),
    "a row and a column of pixels": Extreme(sizes=((3000, 1), (1, 3000))),
    "one proposal": Extreme(proposals=1),
    "5,000 proposals": Extreme(
        sizes=((40, 30),), proposals=5000, batch=1, options=("DATASETS.PROPOSALS.TOP_K", 5000, "SOLVER.MAX_ITER", 1)
    ),
    "one class": Extreme(classes=1),
    "1,000 classes": Extreme(sizes=((40, 30),), classes=1000, options=("SOLVER.MAX_ITER", 1)),
    "no image has a label": Extreme(labels=((), (), ())),
    "every image has every label": Extreme(labels=((0, 1, 2),) * 3),
    "one image a batch": Extreme(batch=1),
    "one image": Extreme(sizes=((40, 30),), batch=1),
    "a batch of more images than there are": Extreme(sizes=((40, 30),), batch=4),
    "all at once": Extreme(sizes=((1, 1),), classes=1, labels=((),), proposals=1, batch=1),
}

MODEL = ["MODEL.VGG.DEPTH", 11, "MODEL.VGG.WIDTH", 0.1, "MODEL.VGG.NORM", "BN", "MODEL.ROI_BOX_HEAD.FC_DIM", 8]
SOLVER = ["SOLVER.MAX_ITER", 2, "SOLVER.STEPS", (), "SOLVER.WARMUP_ITERS", 0, "DATALOADER.NUM_WORKERS", 0]
AUGMENTED = [
    "INPUT.RANDOM_CROP.ENABLED",
    True,
    "INPUT.COLOR_JITTER.BRIGHTNESS",
    1.0,
    "INPUT.COLOR_JITTER.CONTRAST",
    1.0,
]


@dataclass
class Method:
    """Every model of the method on one dataset, in one folder."""

    name: str
    extreme: Extreme
    folder: Path
    proposals: Path

    def config(self, base: str, *options: object, stage: str | None = None) -> CfgNode:
        data = ["DATASETS.TRAIN", (f"{self.name}_train",), "DATASETS.TEST", (f"{self.name}_test",)]
        stores = (str(self.proposals),)
        data += ["DATASETS.PROPOSALS.TRAIN_FILES", stores, "DATASETS.PROPOSALS.TEST_FILES", stores]
        options = [*MODEL, *SOLVER, *AUGMENTED, *data, "SOLVER.IMS_PER_BATCH", self.extreme.batch, *options]
        cfg = load_config(str(CONFIGS / base), [*options, *self.extreme.options], stage)
        complete_config(cfg)
        check_inputs(cfg)
        cfg.freeze()
        return cfg

    def train(self, cfg: CfgNode) -> None:
        """Train and evaluate, as the command does; nothing is NaN, and the model has learned something."""
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

    def predict(self, run: Path) -> None:
        """Predict with what training has left: a probability of each class for each image."""
        cfg, model = load_run(str(run))
        records = list(dataset_records(f"{self.name}_test"))
        outputs = predict(cfg, model, records, f"{self.name}_test")
        assert len(outputs) == len(self.extreme.sizes)
        for output in outputs.values():
            scores = output["image_scores"]
            assert scores.shape == (self.extreme.classes,)
            assert scores.isfinite().all() and ((scores >= 0) & (scores <= 1)).all()
        assert "multilabel" in json.loads((run / "results.json").read_text())


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("extremes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(root))
        yield root


@pytest.mark.parametrize("title", EXTREMES)
def test_the_whole_method_trains_evaluates_and_predicts(title: str, datasets: Path, tmp_path: Path) -> None:
    extreme = EXTREMES[title]
    name = f"extreme{list(EXTREMES).index(title)}"
    extreme.write(datasets / name)
    method = Method(name, extreme, tmp_path, datasets / name / "proposals")

    sizes = ["INPUT.SIZES_TRAIN", (48, 64), "INPUT.SIZE_TEST", 48]
    method.train(method.config("Base-WSD.yaml", *sizes, "OUTPUT_DIR", str(tmp_path / "teacher")))
    method.predict(tmp_path / "teacher")

    sizes = ["INPUT.SIZES_TRAIN", (32,), "INPUT.SIZE_TEST", 32]
    method.train(method.config("Base-Classifier.yaml", *sizes, "OUTPUT_DIR", str(tmp_path / "baseline")))
    method.predict(tmp_path / "baseline")

    student = [*sizes, "MODEL.META_ARCHITECTURE", "DistilledClassifier"]
    student += ["KD.TEACHER.WEIGHTS", str(tmp_path / "teacher" / "model_final.pth"), "KD.FEATURE.WEIGHT", 0.01]
    caching = method.config("Base-Classifier.yaml", *student, stage="feature").clone()
    caching.merge_from_list(["KD.CACHE", str(tmp_path / "cache")])
    make_cache(caching)
    for knowledge, cache in (("live", ""), ("cached", str(tmp_path / "cache"))):
        options = [*student, "KD.CACHE", cache, "OUTPUT_DIR", str(tmp_path / knowledge)]
        for stage in ("feature", "prediction"):
            method.train(method.config("Base-Classifier.yaml", *options, stage=stage))
        method.predict(tmp_path / knowledge / "prediction")
