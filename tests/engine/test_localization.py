"""CorLoc, AP50 and averages over views while training goes on."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from mlickd.data import dataset_records, proposals_path, write_store
from mlickd.engine import Trainer, complete_config, load_config
from mlickd.engine.hooks import TrainingCorLoc

CONFIGS = Path(__file__).parents[2] / "configs"
EVALUATE = ("TEST.EVAL_PERIOD", 2, "TEST.CORLOC_IMAGES", 5)


@pytest.fixture(scope="module", autouse=True)
def proposals(tiny_scenes: Path) -> None:
    """The true boxes and the whole image, so that there is something to find."""
    for name in ("tiny_train", "tiny_test"):
        items = []
        for record in dataset_records(name):
            boxes = [a["bbox"] for a in record["annotations"]] + [[0, 0, record["width"], record["height"]]]
            boxes = np.unique(np.array(boxes, dtype=np.float32), axis=0)
            items.append((record["image_id"], boxes, np.linspace(1, 0.5, len(boxes), dtype=np.float32)))
        write_store(proposals_path(name, "edge_boxes"), items, method="edge_boxes", parameters={}, image_digest="test")


def make_config(output: Path, *options: object):
    settings = ["DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_test',)", "OUTPUT_DIR", str(output)]
    settings += ["MODEL.BACKBONE.WEIGHTS", "", "MODEL.VGG.WIDTH", 0.1, "MODEL.VGG.DEPTH", 11]
    settings += ["MODEL.ROI_BOX_HEAD.FC_DIM", 16, "INPUT.SIZES_TRAIN", (64,), "INPUT.SIZE_TEST", 64]
    settings += ["SOLVER.MAX_ITER", 4, "SOLVER.IMS_PER_BATCH", 4, "SOLVER.STEPS", (), "DATALOADER.NUM_WORKERS", 0]
    cfg = load_config(str(CONFIGS / "wsd_vgg16.yaml"), [*settings, "TEST.EVAL_PERIOD", 0, *options])
    complete_config(cfg)
    cfg.freeze()
    return cfg


def train(cfg) -> Trainer:
    torch.manual_seed(0)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer


def test_figures_are_in_the_log_and_in_the_metrics(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="mlickd.engine"):
        train(make_config(tmp_path, *EVALUATE, "TEST.AUG.ENABLED", True, "TEST.AUG.MIN_SIZES", (48, 64)))
    metrics = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    evaluated = [line for line in metrics if "CorLoc/tiny_train" in line]
    assert evaluated and 0 <= evaluated[-1]["CorLoc/tiny_train"] <= 100
    assert {"multilabel/mAP", "detection/AP50", "multilabel_TTA/mAP", "detection_TTA/AP50"} <= evaluated[-1].keys()
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("writers")]
    assert lines and all(name in lines[-1] for name in ("multilabel/mAP:", "detection/AP50:", "CorLoc/tiny_train:"))
    results = json.loads((tmp_path / "results.json").read_text())
    averaged = json.loads((tmp_path / "results_TTA.json").read_text())
    assert results.keys() == {"multilabel", "detection"}
    assert averaged.keys() == {"multilabel_TTA", "detection_TTA"}
    assert (tmp_path / "inference_TTA" / "tiny_test" / "detection_results.json").is_file()


def test_boxes_change_the_report_alone(tmp_path: Path) -> None:
    without = train(make_config(tmp_path / "without", "TEST.EVAL_PERIOD", 2)).model.state_dict()
    measured = train(make_config(tmp_path / "with", *EVALUATE)).model.state_dict()
    assert all(torch.equal(value, measured[name]) for name, value in without.items())


def test_the_sample_follows_the_seed_and_has_boxes(tmp_path: Path) -> None:
    def ids(*options: object) -> list:
        corloc = TrainingCorLoc(make_config(tmp_path, *options))
        assert all(record["annotations"] for record in corloc.samples["tiny_train"])
        return [record["image_id"] for record in corloc.samples["tiny_train"]]

    first = ids("TEST.CORLOC_IMAGES", 5)
    assert len(set(first)) == 5 and first == ids("TEST.CORLOC_IMAGES", 5)
    assert first != ids("TEST.CORLOC_IMAGES", 5, "SEED", 2)
    boxed = [record["image_id"] for record in dataset_records("tiny_train") if record["annotations"]]
    assert ids("TEST.CORLOC_IMAGES", 1000) == boxed


class Oracle(torch.nn.Module):
    """Finds every object but those of some classes, which it sees in a corner."""

    def __init__(self, teacher: torch.nn.Module, missed: set[int]):
        super().__init__()
        self.teacher, self.missed = teacher, missed
        self.truth = {record["image_id"]: record["annotations"] for record in dataset_records("tiny_train")}

    def forward(self, batch: list[dict]) -> list[dict]:
        assert not any("annotations" in sample for sample in batch)
        outputs = self.teacher(batch)
        for sample, output in zip(batch, outputs, strict=True):
            found = self.truth[sample["image_id"]]
            instances = output["instances"]
            boxes = [[0, 0, 1, 1] if a["category_id"] in self.missed else a["bbox"] for a in found]
            fields = {"pred_boxes": type(instances.pred_boxes)(torch.tensor(boxes)), "scores": torch.ones(len(boxes))}
            fields["pred_classes"] = torch.tensor([a["category_id"] for a in found])
            output["instances"] = type(instances)(instances.image_size, **fields)
        return outputs


def test_it_is_the_share_of_classes_images_whose_best_region_hits(tmp_path: Path) -> None:
    cfg = make_config(tmp_path, "TEST.CORLOC_IMAGES", 1000)
    corloc, teacher = TrainingCorLoc(cfg), Trainer.build_model(cfg)
    present = {a["category_id"] for record in dataset_records("tiny_train") for a in record["annotations"]}
    assert corloc(Oracle(teacher, set())) == {"CorLoc": {"tiny_train": 100.0}}
    missed = set(sorted(present)[:3])
    share = 100 * (1 - len(missed) / len(present))
    assert corloc(Oracle(teacher, missed)) == {"CorLoc": {"tiny_train": pytest.approx(share)}}


def test_a_data_set_without_boxes_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = [{k: v for k, v in record.items() if k != "annotations"} for record in dataset_records("tiny_train")]
    DatasetCatalog.register("unboxed", lambda: records)
    MetadataCatalog.get("unboxed").thing_classes = MetadataCatalog.get("tiny_train").thing_classes
    store = (str(proposals_path("tiny_train", "edge_boxes")),)
    options = ("DATASETS.TRAIN", ("unboxed",), "DATASETS.PROPOSALS.TRAIN_FILES", store, *EVALUATE)
    try:
        with caplog.at_level(logging.INFO, logger="mlickd.engine"):
            train(make_config(tmp_path, *options))
    finally:
        DatasetCatalog.remove("unboxed")
        MetadataCatalog.remove("unboxed")
    assert caplog.text.count("unboxed has no boxes: CorLoc on training images is not measured") == 1
    assert "CorLoc/" not in (tmp_path / "metrics.json").read_text()
