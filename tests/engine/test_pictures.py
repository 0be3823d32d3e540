"""What TensorBoard shows of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mlickd.data import dataset_records, proposals_path, write_store
from mlickd.data.catalog import class_names
from mlickd.engine import Trainer, complete_config, load_config
from mlickd.visualization import figures
from mlickd.visualization.figures import image_row, training_view_row

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module", autouse=True)
def proposals(tiny_scenes: Path) -> None:
    boxes = np.array([[x, y, x + 40, y + 50] for x in (0, 40, 80) for y in (0, 35, 70)], np.float32)
    for name in ("tiny_train", "tiny_test"):
        items = [(record["image_id"], boxes, np.linspace(1, 0.1, 9)) for record in dataset_records(name)]
        write_store(proposals_path(name, "edge_boxes"), items, method="edge_boxes", parameters={}, image_digest="test")


def train_teacher(output: Path, *options: object) -> Trainer:
    settings = ["DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_test',)", "OUTPUT_DIR", str(output)]
    settings += ["MODEL.BACKBONE.WEIGHTS", "", "MODEL.VGG.WIDTH", 0.1, "MODEL.VGG.DEPTH", 11]
    settings += ["MODEL.ROI_BOX_HEAD.FC_DIM", 16, "INPUT.SIZES_TRAIN", (64,), "INPUT.SIZE_TEST", 64]
    settings += ["SOLVER.MAX_ITER", 4, "SOLVER.IMS_PER_BATCH", 4, "SOLVER.STEPS", (), "DATALOADER.NUM_WORKERS", 0]
    cfg = load_config(str(CONFIGS / "wsd_vgg16.yaml"), [*settings, "TEST.EVAL_PERIOD", 2, *options])
    complete_config(cfg)
    cfg.freeze()
    torch.manual_seed(0)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer


def events_of(folder: Path) -> EventAccumulator:
    (file,) = folder.glob("events.out.tfevents.*")
    events = EventAccumulator(str(file), size_guidance={"images": 0})
    return events.Reload()


def test_losses_metrics_and_pictures_are_there_and_change_nothing(tmp_path: Path) -> None:
    with_pictures = train_teacher(tmp_path / "with", "TENSORBOARD.IMAGES", 3, "VIS_PERIOD", 3)
    events = events_of(tmp_path / "with")
    assert {"total_loss", "lr", "multilabel/mAP", "detection/AP50"} <= set(events.Tags()["scalars"])
    assert {tag: [image.step for image in events.Images(tag)] for tag in events.Tags()["images"]} == {
        "training views": [0, 2],
        "regions on tiny_test": [1, 4],  # in training, and behind it
    }
    for tag in events.Tags()["images"]:
        assert events.Images(tag)[0].width == 3 * (figures.TILE + figures.TILE_GAP)

    without = train_teacher(tmp_path / "without", "TENSORBOARD.IMAGES", 0)
    assert events_of(tmp_path / "without").Tags()["images"] == []
    weights = with_pictures.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in without.model.state_dict().items())


def test_views_are_those_that_the_model_sees_with_their_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (3, 32, 32), generator=generator, dtype=torch.uint8)
    side = figures.TILE
    shown = {}
    for image_format, image in (("RGB", pixels), ("BGR", pixels.flip(0))):
        row = training_view_row([{"image": image, "labels": [1]}], class_names("tiny_train"), image_format)
        shown[image_format] = row[:, :side, :side]
        assert row.dtype == torch.uint8 and (row[:, side:] < 128).any(), "the label is written"
    assert torch.equal(shown["RGB"], shown["BGR"])
    seen = torch.nn.functional.avg_pool2d(shown["RGB"].float(), side // 32)
    assert (seen - pixels).abs().mean() < 25 and (seen - pixels.flip(0)).abs().mean() > 50


def test_captions_of_any_length_stay_below_their_picture() -> None:
    pictures = [np.zeros((40, 80, 3), np.uint8), np.zeros((80, 40, 3), np.uint8)]
    row = image_row(pictures, ["word " * 100, "x" * 500])
    assert row.shape == image_row(pictures, ["", ""]).shape
    left, below = figures.TILE, row[:, figures.TILE :]
    assert (below[:, :, left : left + figures.TILE_GAP] == 255).all(), "no word reaches the next picture"
    assert (below[:, :, :left] < 128).any() and (below[:, :, left:] < 128).any()
