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
from mlickd.data import MultiLabelMapper, View, build_test_loader, build_train_loader, dataset_records
from mlickd.data.build import build_inference_mapper
from mlickd.data.corruptions import CORRUPTION_REGISTRY, STRENGTHS, Corruption
from mlickd.data.decoding import read_image
from mlickd.errors import InputError

NAMES = ["noise", "blur", "jpeg", "darker", "brighter", "occlusion", "small_scale"]
RANDOM = {"noise", "occlusion"}


def damaged(name: str, strength: int, image: np.ndarray) -> np.ndarray:
    return Corruption(name, strength).damage(image, "a")


@settings(max_examples=40)
@given(st.sampled_from(NAMES), st.sampled_from(STRENGTHS), st.tuples(*2 * [st.integers(1, 40)]), st.integers(0, 2**32))
def test_random_draws_depend_only_on_seed_image_and_strength(name, strength, shape, seed) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    before, corruption = image.copy(), Corruption(name, strength, seed)
    found = corruption.damage(image, 12)
    assert found.shape == image.shape and found.dtype == np.uint8
    assert np.array_equal(image, before) and not np.shares_memory(image, found)
    assert np.array_equal(found, corruption.damage(image, "12"))
    if image.size > 300:
        for other in (Corruption(name, strength, seed + 1).damage(image, 12), corruption.damage(image, "b")):
            assert np.array_equal(found, other) == (name not in RANDOM)
    view = torch.from_numpy(image).permute(2, 0, 1)
    assert np.array_equal(corruption.apply(view, 12).permute(1, 2, 0).numpy(), found)
    assert torch.equal(corruption.apply(view.flip(0), 12, "BGR").flip(0), corruption.apply(view, 12))


def test_a_larger_strength_changes_more(tiny_scenes: Path) -> None:
    scene = read_image(dataset_records("tiny_test")[0]["file_name"])
    for name in NAMES:
        changes = [np.abs(damaged(name, strength, scene).astype(int) - scene).mean() for strength in STRENGTHS]
        assert 0.3 < changes[0] < changes[1] < changes[2]


def test_amounts_are_the_documented_ones() -> None:
    gray = np.full((200, 200, 3), 100, dtype=np.uint8)
    edge = np.repeat(np.uint8([0, 255]), 100)[None, :, None].repeat(200, 0).repeat(3, 2)
    stripes = np.tile(np.uint8([0, 255])[None, :, None], (200, 100, 3))
    for strength, deviation, dark, bright, hidden, blur, factor in zip(
        STRENGTHS, (20, 40, 60), (60, 40, 20), (130, 170, 250), (0.15, 0.3, 0.5), (1.5, 3, 6), (2, 4, 8), strict=True
    ):
        noisy = damaged("noise", strength, gray).astype(float)
        # Values below 0 are cut off, which is rare at 100 unless the deviation is large.
        assert noisy.std() == pytest.approx(deviation, rel=0.08) and abs(noisy.mean() - 100) < 2.5
        assert (damaged("darker", strength, gray) == dark).all()
        assert (damaged("brighter", strength, gray) == bright).all()
        assert hidden <= (damaged("occlusion", strength, gray) == 127).all(axis=2).mean() < hidden + 0.07
        # The slope of a blurred edge is the Gaussian itself.
        slope = np.diff(damaged("blur", strength, edge)[100, :, 0].astype(float)) / 255
        places = np.arange(199) + 0.5
        spread = np.sqrt((slope * (places - (slope * places).sum()) ** 2).sum())
        assert spread == pytest.approx(blur, rel=0.1)
        assert np.ptp(damaged("small_scale", strength, stripes).astype(int)) <= 1
        wide = np.repeat(stripes, 2 * factor, axis=1)
        assert damaged("small_scale", strength, wide).std() > 70


def test_names_and_strengths() -> None:
    assert list(dict(CORRUPTION_REGISTRY)) == NAMES
    assert Corruption.parse("small_scale:3", 4) == Corruption("small_scale", 3, 4)
    assert str(Corruption("noise", 1)) == "noise:1"
    for text in ("fog:1", "noise", "noise:4", "noise:+1", "noise:1:2"):
        with pytest.raises(InputError, match=f"TEST.CORRUPTION '{re.escape(text)}'"):
            Corruption.parse(text)


def config(corruption: str, workers: int = 0) -> object:
    cfg = default_config()
    cfg.merge_from_list(["MODEL.META_ARCHITECTURE", "MultiLabelClassifier", "INPUT.SIZE_TEST", 48])
    cfg.merge_from_list(["INPUT.SIZES_TRAIN", (48,), "MODEL.DEVICE", "cpu", "SOLVER.IMS_PER_BATCH", 4, "SEED", 1])
    cfg.merge_from_list(["DATASETS.TRAIN", ("tiny_train",), "TEST.IMS_PER_BATCH", 5, "INPUT.FORMAT", "RGB"])
    cfg.merge_from_list(["DATALOADER.NUM_WORKERS", workers, "TEST.CORRUPTION", corruption, "TEST.CORRUPTION_SEED", 3])
    return cfg


def test_only_evaluation_sees_damage_and_with_any_number_of_workers_the_same(tiny_scenes: Path) -> None:
    single, shared = (
        {sample["image_id"]: sample["image"] for batch in build_test_loader(cfg, "tiny_test") for sample in batch}
        for cfg in (config("noise:2"), config("noise:2", workers=2))
    )
    assert len(single) == 12
    for record in dataset_records("tiny_test"):
        image_id, clean = record["image_id"], MultiLabelMapper()(record, View(48))["image"]
        assert torch.equal(single[image_id], shared[image_id])
        assert torch.equal(single[image_id], Corruption("noise", 2, 3).apply(clean, image_id))
    for plain, other in zip(*map(undamaged, ("", "noise:3")), strict=True):
        assert torch.equal(plain["image"], other["image"])


def undamaged(corruption: str) -> list[dict]:
    """Samples of training, and one of prediction."""
    cfg = config(corruption)
    return [*next(iter(build_train_loader(cfg))), build_inference_mapper(cfg)(dataset_records("tiny_test")[0])]
