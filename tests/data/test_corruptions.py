"""Damage to test images: the same for the same seed and image, stronger with the strength, of any size."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlickd.config import default_config
from mlickd.data import build_test_loader, build_train_loader, dataset_records
from mlickd.data.build import build_inference_mapper
from mlickd.data.corruptions import STRENGTHS, Corruption, corruption_names
from mlickd.data.images import read_image
from mlickd.data.mapper import MultiLabelMapper
from mlickd.data.views import View
from mlickd.engine.check_config import check_config
from mlickd.errors import InputError

NAMES = ["noise", "blur", "jpeg", "darker", "brighter", "occlusion", "small_scale"]
RANDOM = {"noise", "occlusion"}


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def scene(tiny_scenes: Path) -> np.ndarray:
    return read_image(dataset_records("tiny_test")[0]["file_name"])


def test_these_kinds_are_there() -> None:
    assert corruption_names() == NAMES


@settings(max_examples=40)
@given(
    st.sampled_from(NAMES), st.sampled_from(STRENGTHS), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32)
)  # fmt: skip
def test_shape_and_type_stay_and_the_image_is_not_touched(name, strength, height, width, seed) -> None:
    image = random_image(height, width, seed)
    before = image.copy()
    damaged = Corruption(name, strength, seed).damage(image, "a")
    assert damaged.shape == image.shape and damaged.dtype == np.uint8
    assert np.array_equal(image, before) and not np.shares_memory(image, damaged)
    assert np.array_equal(damaged, Corruption(name, strength, seed).damage(image, "a"))


@pytest.mark.parametrize("name", NAMES)
def test_a_larger_strength_changes_more(name: str, scene: np.ndarray) -> None:
    changes = [
        np.abs(Corruption(name, strength).damage(scene, "a").astype(int) - scene).mean() for strength in STRENGTHS
    ]
    assert 0.3 < changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_random_follows_from_seed_image_and_strength(name: str) -> None:
    image = random_image(30, 20)
    damaged = Corruption(name, 2, 7).damage(image, "a")
    for other in (Corruption(name, 2, 8).damage(image, "a"), Corruption(name, 2, 7).damage(image, "b")):
        assert np.array_equal(damaged, other) == (name not in RANDOM)
    # An id is the same whether a dataset gives it as a number or as text.
    assert np.array_equal(Corruption(name, 2).damage(image, 12), Corruption(name, 2).damage(image, "12"))


def test_fingerprints_tell_everything_apart() -> None:
    prints = {Corruption(name, strength).fingerprint() for name in NAMES for strength in STRENGTHS}
    assert len(prints) == len(NAMES) * len(STRENGTHS)
    assert Corruption("noise", 1, 0).fingerprint() != Corruption("noise", 1, 1).fingerprint()


def test_amounts_are_those_that_are_written_down() -> None:
    gray = np.full((200, 200, 3), 100, dtype=np.uint8)
    for strength, deviation, dark, bright, hidden in zip(
        STRENGTHS, (20, 40, 60), (60, 40, 20), (130, 170, 250), (0.15, 0.3, 0.5), strict=True
    ):
        noisy = Corruption("noise", strength).damage(gray, "a").astype(float)
        # Values below 0 are cut off, which is rare at 100 unless the deviation is large.
        assert noisy.std() == pytest.approx(deviation, rel=0.08) and abs(noisy.mean() - 100) < 2.5
        assert (Corruption("darker", strength).damage(gray, "a") == dark).all()
        assert (Corruption("brighter", strength).damage(gray, "a") == bright).all()
        covered = (Corruption("occlusion", strength).damage(gray, "a") == 127).all(axis=2).mean()
        assert hidden <= covered < hidden + 0.07
        assert np.array_equal(Corruption("blur", strength).damage(gray, "a"), gray)
        assert np.array_equal(Corruption("small_scale", strength).damage(gray, "a"), gray)
    edge = np.zeros((200, 200, 3), dtype=np.uint8)
    edge[:, 100:] = 255
    for strength, deviation in zip(STRENGTHS, (1.5, 3, 6), strict=True):
        # The slope of a blurred edge is the Gaussian itself: its standard deviation is that of the blur.
        slope = np.diff(Corruption("blur", strength).damage(edge, "a")[100, :, 0].astype(float)) / 255
        places = np.arange(199) + 0.5
        spread = np.sqrt((slope * (places - (slope * places).sum()) ** 2).sum())
        assert spread == pytest.approx(deviation, rel=0.1)
    for strength, factor in zip(STRENGTHS, (2, 4, 8), strict=True):
        fine = np.tile(np.array([0, 255], dtype=np.uint8)[None, :, None], (200, 100, 3))
        assert np.ptp(Corruption("small_scale", strength).damage(fine, "a").astype(int)) <= 1
        coarse = np.repeat(np.tile([0, 255], 100), 2 * factor)[None, :200, None].repeat(200, 0).repeat(3, 2)
        assert Corruption("small_scale", strength).damage(coarse.astype(np.uint8), "a").std() > 70


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_channels_does_not_matter(name: str) -> None:
    view = torch.from_numpy(random_image(20, 30)).permute(2, 0, 1)
    corruption = Corruption(name, 2)
    damaged = corruption.apply(view, "a")
    assert torch.equal(corruption.apply(view.flip(0), "a", "BGR").flip(0), damaged)
    assert np.array_equal(damaged.permute(1, 2, 0).numpy(), corruption.damage(view.permute(1, 2, 0).numpy(), "a"))


def test_names_and_strengths_are_parsed() -> None:
    assert Corruption.parse("small_scale:3", 4) == Corruption("small_scale", 3, 4)
    assert str(Corruption("noise", 1)) == "noise:1"


@pytest.mark.parametrize("text", ["fog:1", "noise", "noise:4", "noise:+1", "noise:1:2"])
def test_an_unknown_corruption_is_refused_before_anything_is_loaded(text: str) -> None:
    cfg = default_config()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.BACKBONE.NAME = "MultiLabelClassifier", "build_vgg_backbone"
    cfg.TEST.CORRUPTION = "noise:1"
    check_config(cfg)
    cfg.TEST.CORRUPTION = text
    with pytest.raises(InputError, match=f"TEST.CORRUPTION '{re.escape(text)}'"):
        check_config(cfg)


def loader_config() -> object:
    cfg = default_config()
    cfg.merge_from_list(["MODEL.META_ARCHITECTURE", "MultiLabelClassifier", "INPUT.SIZE_TEST", 48])
    cfg.merge_from_list(["INPUT.SIZES_TRAIN", (48,), "MODEL.DEVICE", "cpu", "SOLVER.IMS_PER_BATCH", 4, "SEED", 1])
    cfg.merge_from_list(["DATASETS.TRAIN", ("tiny_train",), "TEST.IMS_PER_BATCH", 5])
    cfg.merge_from_list(["DATALOADER.NUM_WORKERS", 0, "INPUT.FORMAT", "RGB"])
    return cfg


def test_the_test_loader_damages_the_same_with_and_without_workers(tiny_scenes: Path) -> None:
    cfg = loader_config()
    cfg.TEST.CORRUPTION, cfg.TEST.CORRUPTION_SEED = "noise:2", 3
    alone = {sample["image_id"]: sample["image"] for batch in build_test_loader(cfg, "tiny_test") for sample in batch}
    cfg.DATALOADER.NUM_WORKERS, cfg.TEST.IMS_PER_BATCH, cfg.SEED = 2, 3, 9
    shared = {sample["image_id"]: sample["image"] for batch in build_test_loader(cfg, "tiny_test") for sample in batch}
    clean = MultiLabelMapper()
    assert len(alone) == 12
    for record in dataset_records("tiny_test"):
        image_id = record["image_id"]
        assert torch.equal(alone[image_id], shared[image_id])
        expected = Corruption("noise", 2, 3).apply(clean(record, View(48))["image"], image_id)
        assert torch.equal(alone[image_id], expected)


def test_training_and_use_never_see_damage(tiny_scenes: Path) -> None:
    batches = {}
    for text in ("", "noise:3"):
        cfg = loader_config()
        cfg.TEST.CORRUPTION = text
        batches[text] = next(iter(build_train_loader(cfg)))
        batches[text] += [build_inference_mapper(cfg, "tiny_test")(dataset_records("tiny_test")[0])]
    assert len(batches[""]) == 5
    for plain, other in zip(*batches.values(), strict=True):
        assert torch.equal(plain["image"], other["image"])
