"""The training loader gives the same bytes whoever makes them."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from helpers.small_models import teacher_config
from mlickd.config import default_config
from mlickd.data import build_train_loader, dataset_records, write_store
from mlickd.errors import InputError, user_error_message


def batches(workers: int, *options: object) -> list[list[dict]]:
    cfg = default_config()
    cfg.MODEL.META_ARCHITECTURE = "MultiLabelClassifier"
    cfg.DATASETS.TRAIN = ("tiny_train",)
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "INPUT.SIZES_TRAIN", (32, 48), "SOLVER.IMS_PER_BATCH", 4])
    cfg.merge_from_list(["DATALOADER.NUM_WORKERS", workers, *options])
    return list(islice(build_train_loader(cfg), 8))


AUGMENTED = ("INPUT.RANDOM_CROP.ENABLED", True, "INPUT.COLOR_JITTER.SATURATION", 0.5)


@pytest.mark.parametrize("options", [(), AUGMENTED])
def test_the_number_of_workers_changes_no_byte(tiny_scenes: Path, options: tuple) -> None:
    for single, spread in zip(batches(0, *options), batches(2, *options), strict=True):
        for first, second in zip(single, spread, strict=True):
            assert torch.equal(first.pop("image"), second.pop("image"))
            assert first == second


def test_augmentation_is_off_unless_asked_for(tiny_scenes: Path) -> None:
    plain, augmented = batches(0), batches(0, *AUGMENTED)
    assert all(sample["view"].crop is None for batch in plain for sample in batch)
    assert all(sample["view"].crop is not None for batch in augmented for sample in batch)
    colored = batches(0, "INPUT.COLOR_JITTER.BRIGHTNESS", 0.5)
    for first, second in zip(plain[0], colored[0], strict=True):
        assert first["view"] == second["view"] and not torch.equal(first["image"], second["image"])


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_turns_out_broken_ends_training_with_its_name(
    tiny_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    shutil.copytree(tiny_scenes / "tiny", tmp_path / "tiny")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    broken = sorted((tmp_path / "tiny" / "images").glob("train_*"))[0]
    broken.write_bytes(broken.read_bytes()[:-1000])
    with pytest.raises(InputError) as error:
        batches(workers)
    assert str(broken) in user_error_message(error.value) and "\n" not in user_error_message(error.value)


def test_a_detector_trains_on_crops_that_no_region_is_in(tiny_scenes: Path, tmp_path: Path) -> None:
    corner = np.array([[0, 0, 20, 20]], dtype=np.float32), np.array([0.5], dtype=np.float32)
    boxes = [(record["image_id"], *corner) for record in dataset_records("tiny_train", boxes=False)]
    write_store(tmp_path / "corners", boxes, method="test", parameters={}, image_digest="test")
    cfg = teacher_config()
    cfg.merge_from_list(
        ["DATASETS.TRAIN", ("tiny_train",), "DATASETS.PROPOSALS.TRAIN_FILES", (str(tmp_path / "corners"),)]
    )
    cfg.merge_from_list(["INPUT.RANDOM_CROP.ENABLED", True, "INPUT.RANDOM_CROP.AREA", (0.1, 0.9)])
    cfg.merge_from_list(["MODEL.NUM_CLASSES", 20, "SOLVER.IMS_PER_BATCH", 6, "DATALOADER.NUM_WORKERS", 0])
    model = build_model(cfg)
    views = []
    for batch in islice(build_train_loader(cfg), 6):
        assert all(len(sample["proposals"]) == 1 for sample in batch)
        assert model(batch)["loss_image"].isfinite()
        views += [sample["view"] for sample in batch]
    assert {view.crop is None for view in views} == {True, False}
