"""Every shipped configuration loads, builds its model and takes a training step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode

from mlickd.config import default_config
from mlickd.data import dataset_records, proposals_path, write_store
from mlickd.engine import Trainer, check_inputs, complete_config, load_config

CONFIGS = Path(__file__).parents[2] / "configs"
SHIPPED = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml") if "Base-" not in path.name)
# Weights that are downloaded or trained first, and sizes that are too heavy for a test.
SMALL = ["MODEL.BACKBONE.WEIGHTS", "", "MODEL.VGG.WIDTH", 0.1, "MODEL.ROI_BOX_HEAD.FC_DIM", 32]
SMALL += ["MODEL.CLASSIFIER.FC_DIM", 32, "INPUT.SIZES_TRAIN", (64,), "INPUT.SIZE_TEST", 64, "SOLVER.IMS_PER_BATCH", 2]
SMALL += ["SOLVER.MAX_ITER", 1, "SOLVER.STEPS", (), "DATALOADER.NUM_WORKERS", 0, "DATASETS.PROPOSALS.TOP_K", 5]
SMALL += [
    "KD.FEATURE.MAX_ITER",
    0,
    "KD.PREDICTION.MAX_ITER",
    0,
    "DATASETS.TRAIN",
    ("tiny_train",),
    "DATASETS.TEST",
    ("tiny_test",),
    "TEST.EVAL_PERIOD",
    0,
]


@pytest.fixture(scope="module", autouse=True)
def proposals(tiny_scenes: Path) -> None:
    """A few boxes for each image of the tiny data set."""
    for name in ("tiny_train", "tiny_test"):
        items = []
        for record in dataset_records(name):
            width, height = record["width"], record["height"]
            boxes = [[0, 0, width, height], [0, 0, width / 2, height / 2], [width / 3, height / 3, width, height]]
            items.append((record["image_id"], torch.tensor(boxes).numpy(), torch.tensor([0.9, 0.5, 0.2]).numpy()))
        write_store(proposals_path(name, "edge_boxes"), items, method="edge_boxes", parameters={}, image_digest="test")


def small_config(config: str, output: Path, stage: str | None = None, *options: object) -> CfgNode:
    cfg = load_config(str(CONFIGS / config), [*SMALL, "OUTPUT_DIR", str(output), *options], stage)
    complete_config(cfg)
    check_inputs(cfg)
    cfg.freeze()
    return cfg


def take_a_step(cfg: CfgNode) -> dict[str, float]:
    """One step of the trainer; the losses."""
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.cfg = cfg
    super(Trainer, trainer).train()
    return {name: value for name, (value, _) in trainer.storage.latest().items() if "loss" in name}


@pytest.mark.parametrize("config", [name for name in SHIPPED if not Path(name).name.startswith("kd")])
def test_teacher_and_plain_student_take_a_step(config: str, tmp_path: Path) -> None:
    losses = take_a_step(small_config(config, tmp_path))
    assert losses["total_loss"] > 0 and (tmp_path / "model_final.pth").is_file()


@pytest.mark.parametrize("config", [name for name in SHIPPED if Path(name).name.startswith("kd")])
def test_both_stages_take_a_step(config: str, tmp_path: Path) -> None:
    teacher_config = str(Path(config).with_name(Path(config).name.replace("kd", "wsd").replace("_release", "")))
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    cfg = small_config(teacher_config, teacher)
    (teacher / "config.yaml").write_text(cfg.dump())
    take_a_step(cfg)
    knowledge = ("KD.TEACHER.WEIGHTS", str(teacher / "model_final.pth"))
    feature = take_a_step(small_config(config, tmp_path / "with", "feature", *knowledge))
    assert feature["total_loss"] > 0 and "loss_label" not in feature
    cfg = small_config(config, tmp_path / "with", "prediction", *knowledge)
    assert cfg.MODEL.WEIGHTS == str(tmp_path / "with" / "feature" / "student.pth")
    prediction = take_a_step(cfg)
    assert prediction["loss_label"] > 0 and prediction["loss_soft_label"] > 0
    assert (tmp_path / "with" / "prediction" / "student.pth").is_file()


def test_the_students_with_and_without_share_data_pooling_and_schedule() -> None:
    for folder in ("", "scenes/", "folder/"):
        suffix = "" if folder else "_vgg16"
        plain, distilled = default_config(), default_config()
        plain.merge_from_file(str(CONFIGS / f"{folder}cls{suffix}.yaml"))
        distilled.merge_from_file(str(CONFIGS / f"{folder}kd{suffix}.yaml"))
        for key in ("VGG", "TIMM", "CLASSIFIER", "BACKBONE"):
            assert plain.MODEL[key] == distilled.MODEL[key]
        assert plain.INPUT == distilled.INPUT
        assert plain.DATASETS.TRAIN == distilled.DATASETS.TRAIN and plain.DATASETS.TEST == distilled.DATASETS.TEST
        stages = (distilled.KD.FEATURE, distilled.KD.PREDICTION)
        iterations = sum(stage.MAX_ITER or distilled.SOLVER.MAX_ITER for stage in stages)
        assert plain.SOLVER.MAX_ITER == iterations  # both stages together
        assert plain.SOLVER.STEPS == tuple(2 * step for step in distilled.SOLVER.STEPS) or "Cosine" in (
            plain.SOLVER.LR_SCHEDULER_NAME
        )
        for schedule in (plain.SOLVER, distilled.SOLVER):
            schedule.MAX_ITER, schedule.STEPS = 0, ()
        assert plain.SOLVER == distilled.SOLVER
