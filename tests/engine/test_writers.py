"""Metrics and images that training writes: CorLoc, averages over views, TensorBoard."""

import json
import logging
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.events import EventStorage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers.small_models import SMALL
from helpers.small_trainer import DATA, final_config, finish
from mlickd.data import class_names, dataset_records
from mlickd.engine import Trainer
from mlickd.engine.writers import TensorBoardWriter, remove_repeated_metrics
from mlickd.evaluation import TrainingCorLoc
from mlickd.visualization import figures
from mlickd.visualization.figures import training_view_row

pytestmark = pytest.mark.usefixtures("tiny_proposals")
FIRST = '{"iteration": 19, "total_loss": 3.0}\n'
SECOND = '{"iteration": 39, "total_loss": 2.0}\n'


def teacher_run(output: Path, *options: object) -> CfgNode:
    settings = [*SMALL, *DATA, "OUTPUT_DIR", str(output), "MODEL.BACKBONE.WEIGHTS", "", "INPUT.SIZES_TRAIN", (64,)]
    settings += ["INPUT.SIZE_TEST", 64, "SOLVER.MAX_ITER", 4, "SOLVER.IMS_PER_BATCH", 4, "SOLVER.STEPS", ()]
    settings += ["TENSORBOARD.IMAGES", 0, "TEST.EVAL_PERIOD", 0, "TEST.CORLOC_IMAGES", 0]
    return final_config("wsd_vgg16.yaml", *settings, *options)


def train(cfg: CfgNode) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return finish(Trainer(cfg))


def read_events(folder: Path) -> EventAccumulator:
    (file,) = folder.glob("events.out.tfevents.*")
    return EventAccumulator(str(file), size_guidance={"images": 0}).Reload()


def test_evaluations_and_images_do_not_change_the_weights(tmp_path: Path) -> None:
    options = ("TEST.EVAL_PERIOD", 2, "TEST.CORLOC_IMAGES", 5, "TEST.AUG.ENABLED", True, "TEST.AUG.MIN_SIZES", (48, 64))
    weights = train(teacher_run(tmp_path / "with", *options, "TENSORBOARD.IMAGES", 3, "VIS_PERIOD", 3))
    metrics = [json.loads(line) for line in (tmp_path / "with/metrics.json").read_text().splitlines()]
    evaluated = [line for line in metrics if "CorLoc/tiny_train" in line]
    assert evaluated and 0 <= evaluated[-1]["CorLoc/tiny_train"] <= 100
    assert {"multilabel/mAP", "detection/AP50", "multilabel_TTA/mAP", "detection_TTA/AP50"} <= evaluated[-1].keys()
    assert json.loads((tmp_path / "with/results.json").read_text()).keys() == {"multilabel", "detection"}
    averaged = json.loads((tmp_path / "with/results_TTA.json").read_text())
    assert averaged.keys() == {"multilabel_TTA", "detection_TTA"}
    assert (tmp_path / "with" / "inference_TTA" / "tiny_test" / "detection_results.json").is_file()

    events = read_events(tmp_path / "with")
    assert {"total_loss", "lr", "multilabel/mAP", "detection/AP50"} <= set(events.Tags()["scalars"])
    assert {tag: [image.step for image in events.Images(tag)] for tag in events.Tags()["images"]} == {
        "training views": [0, 2],
        "regions on tiny_test": [1, 4],  # in training, and after it
    }
    for tag in events.Tags()["images"]:
        assert events.Images(tag)[0].width == 3 * (figures.TILE + figures.TILE_GAP)

    without = train(teacher_run(tmp_path / "without"))
    assert read_events(tmp_path / "without").Tags()["images"] == []
    assert all(torch.equal(value, weights[name]) for name, value in without.items())


def test_corloc_is_measured_on_a_sample_of_the_images_with_boxes(tmp_path: Path) -> None:
    def chosen_ids(images: int, seed: int) -> list:
        corloc = TrainingCorLoc(teacher_run(tmp_path, "TEST.CORLOC_IMAGES", images, "SEED", seed))
        return [record["image_id"] for record in corloc.samples["tiny_train"]]

    boxed = [record["image_id"] for record in dataset_records("tiny_train") if record["annotations"]]
    assert chosen_ids(1000, 0) == boxed
    assert len(set(chosen_ids(5, 1))) == 5 and chosen_ids(5, 1) == chosen_ids(5, 1) != chosen_ids(5, 2)


def test_a_dataset_without_boxes_has_no_corloc(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = [{k: v for k, v in record.items() if k != "annotations"} for record in dataset_records("tiny_train")]
    DatasetCatalog.register("unboxed", lambda: records)
    MetadataCatalog.get("unboxed").thing_classes = MetadataCatalog.get("tiny_train").thing_classes
    try:
        with caplog.at_level(logging.INFO, logger="mlickd"):
            cfg = teacher_run(tmp_path, "DATASETS.TRAIN", ("unboxed",), "TEST.CORLOC_IMAGES", 5)
            assert TrainingCorLoc(cfg)(Trainer.build_model(cfg)) == {}
    finally:
        DatasetCatalog.remove("unboxed")
        MetadataCatalog.remove("unboxed")
    assert caplog.text.count("unboxed has no boxes") == 1


def test_training_views_show_images_and_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (3, 32, 32), generator=generator, dtype=torch.uint8)
    side = figures.TILE
    shown = {}
    for image_format, image in (("RGB", pixels), ("BGR", pixels.flip(0))):
        sample = {"image": image, "labels": [1]}
        row = torch.from_numpy(training_view_row([sample], class_names("tiny_train"), image_format))
        shown[image_format] = row[:, :side, :side]
        assert row.dtype == torch.uint8 and (row[:, side:] < 128).any(), "the label is written"
    assert torch.equal(shown["RGB"], shown["BGR"])
    seen = torch.nn.functional.avg_pool2d(shown["RGB"].float(), side // 32)
    assert (seen - pixels).abs().mean() < 25 and (seen - pixels.flip(0)).abs().mean() > 50


@pytest.mark.parametrize(
    ("content", "iteration", "kept"),
    [
        (FIRST + SECOND, 60, FIRST + SECOND),
        (FIRST + SECOND, 39, FIRST),
        (FIRST + SECOND[:20], 60, FIRST),
        (FIRST + SECOND[:-1], 60, FIRST),
        (FIRST + SECOND + FIRST, 30, FIRST),
    ],
)
def test_lines_of_repeated_iterations_are_removed(content: str, iteration: int, kept: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    remove_repeated_metrics(path, iteration)  # the file may be missing
    path.write_text(content)
    with path.open("a") as open_already:
        remove_repeated_metrics(path, iteration)
        open_already.write("new\n")
    assert path.read_text() == kept + "new\n"


def test_tensorboard_shows_each_iteration_once(tmp_path: Path) -> None:
    def write(start: int, values: dict[int, float]) -> None:
        writer = TensorBoardWriter(str(tmp_path), lambda: start)
        with EventStorage(start) as storage:
            for storage.iter, value in values.items():
                storage.put_scalar("loss", value, smoothing_hint=False)
                writer.write()
        writer.close()

    write(0, {0: 5.0, 1: 4.0, 2: 3.0})
    write(1, {1: 4.5, 2: 3.5})
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(0, 5.0), (1, 4.5), (2, 3.5)]
