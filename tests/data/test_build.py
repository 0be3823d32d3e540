"""Batches depend only on the seed and the iteration, and tensors of a worker arrive unchanged."""

import pickle
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from hypothesis import given, settings
from hypothesis import strategies as st

from mlickd.config import default_config
from mlickd.data import TrainingBatchSampler, View, build_train_loader
from mlickd.data.sampling import RandomCrop
from mlickd.data.workers import PackedBatch

DTYPES = st.sampled_from([torch.uint8, torch.float32, torch.float16, torch.int64, torch.bool, torch.float64])
SHAPES = st.lists(st.integers(0, 4), max_size=3)


def train_config(*options: object) -> CfgNode:
    cfg = default_config()
    cfg.MODEL.META_ARCHITECTURE, cfg.DATASETS.TRAIN = "MultiLabelClassifier", ("tiny_train",)
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "INPUT.SIZES_TRAIN", (32, 48), "SOLVER.IMS_PER_BATCH", 4])
    cfg.merge_from_list(["DATALOADER.NUM_WORKERS", 0, *options])
    return cfg


def batches(workers: int, *options: object) -> list[list[dict]]:
    return list(islice(build_train_loader(train_config(*options, "DATALOADER.NUM_WORKERS", workers)), 8))


@given(st.lists(st.tuples(DTYPES, SHAPES, st.booleans()), max_size=6))
def test_tensors_of_a_worker_arrive_unchanged_and_writable(kinds: list) -> None:
    tensors = [(torch.rand(shape) * 9).to(dtype) for dtype, shape, _ in kinds]
    tensors = [x.mT if transposed and x.ndim > 1 else x for x, (_, _, transposed) in zip(tensors, kinds, strict=True)]
    arrived = pickle.loads(pickle.dumps(PackedBatch([{"tensors": tensors}])))
    assert type(arrived) is list
    for sent, received in zip(tensors, arrived[0]["tensors"], strict=True):
        assert received.dtype == sent.dtype and torch.equal(received, sent)
        received.zero_()


def test_each_key_of_the_augmentation_has_its_effect(tiny_scenes: Path) -> None:
    def views(*options: object) -> list[View]:
        return [sample["view"] for batch in batches(0, *options) for sample in batch]

    assert {view.mirror for view in views()} == {False, True}
    assert {view.mirror for view in views("INPUT.RANDOM_FLIP", "none")} == {False}
    assert {view.crop for view in views()} == {None} and views("SEED", 1) != views("SEED", 2)
    crop = ("INPUT.RANDOM_CROP.ENABLED", True, "INPUT.RANDOM_CROP.AREA", (0.25, 0.25))
    for x0, y0, x1, y1 in (view.crop for view in views(*crop)):
        assert (x1 - x0) * (y1 - y0) == pytest.approx(0.25)


@settings(max_examples=50)
@given(st.integers(2, 30), st.integers(0, 20), st.integers(0, 1000), st.booleans())
def test_batches_depend_only_on_seed_and_iteration(num_images: int, start: int, seed: int, cropped: bool) -> None:
    """A resumed run continues with the same batches, and processes share a batch without overlap."""
    options = {"crop": RandomCrop()} if cropped else {}
    whole, resumed, other = (
        TrainingBatchSampler(num_images, 6, (64, 96), seed=each, **options) for each in (seed, seed, seed + 1)
    )
    resumed.start_iteration = start
    assert list(islice(whole, start, start + 3)) == list(islice(resumed, 3)) != list(islice(other, start, start + 3))
    samplers = [
        TrainingBatchSampler(num_images, 6, (64, 96), seed=seed, rank=r, world_size=3, **options) for r in range(3)
    ]
    shares = [item for sampler in samplers for item in sampler.batch(start)]
    assert sorted(map(str, shares)) == sorted(map(str, whole.batch(start)))


@settings(max_examples=50)
@given(st.integers(1, 9), st.integers(1, 30), st.integers(0, 1000))
def test_a_share_of_each_batch_is_unlabeled(labeled: int, unlabeled: int, seed: int) -> None:
    options = {"seed": seed, "unlabeled": (unlabeled, 4)}
    sampler = TrainingBatchSampler(labeled + unlabeled, 6, (64,), **options)
    batches = [[item.index for item in batch] for batch in islice(sampler, 2 * unlabeled + 2)]
    assert all(sum(index >= labeled for index in batch) == 4 for batch in batches)
    for images in (range(labeled), range(labeled, labeled + unlabeled)):
        indices = [index for batch in batches for index in batch if index in images]
        for epoch in range(len(indices) // len(images)):
            assert sorted(indices[epoch * len(images) : (epoch + 1) * len(images)]) == list(images)
    ranks = [TrainingBatchSampler(labeled + unlabeled, 6, (64,), rank=r, world_size=2, **options) for r in range(2)]
    assert sorted(item.index for rank in ranks for item in rank.batch(3)) == sorted(batches[3])


def test_a_batch_has_one_size_and_all_sizes_and_mirrors_occur() -> None:
    sampler = TrainingBatchSampler(50, 8, (480, 576, 672, 736, 832), seed=0)
    batches = list(islice(sampler, 60))
    assert all(len({item.view.size for item in batch}) == 1 for batch in batches)
    assert {batch[0].view.size for batch in batches} == {480, 576, 672, 736, 832}
    mirrored = sum(item.view.mirror for batch in batches for item in batch)
    assert 0.4 < mirrored / (60 * 8) < 0.6


def test_crops_do_not_change_other_random_draws() -> None:
    crops = (None, RandomCrop())
    plain, cropped = (TrainingBatchSampler(50, 8, (64, 96), seed=3, crop=crop).batch(7) for crop in crops)
    assert [item._replace(view=replace(item.view, crop=None)) for item in cropped] == plain
    assert len({item.view.crop for item in cropped}) == 8
