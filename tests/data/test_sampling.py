"""What a training iteration sees depends only on the seed and the iteration."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlickd.data import ImageView, TrainingBatchSampler, TrainingSamples, View
from mlickd.data.augmentation import ColorJitter, ColorShift, RandomCrop


@settings(max_examples=50)
@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 1000))
def test_every_epoch_has_every_image_once(num_images: int, batch_size: int, seed: int) -> None:
    sampler = TrainingBatchSampler(num_images, batch_size, (64, 96), seed=seed)
    batches = 2 * num_images // batch_size + 1
    indices = [item.index for batch in islice(sampler, batches) for item in batch]
    for epoch in range(len(indices) // num_images):
        assert sorted(indices[epoch * num_images : (epoch + 1) * num_images]) == list(range(num_images))


@settings(max_examples=50)
@given(st.integers(2, 30), st.integers(0, 20), st.integers(0, 1000), st.booleans())
def test_batches_depend_only_on_seed_and_iteration(num_images: int, start: int, seed: int, augmented: bool) -> None:
    """A resumed run sees what the uninterrupted one sees, and processes share a batch without overlap."""
    options = {"crop": RandomCrop(), "color_jitter": ColorJitter(0.2, 0.2, 0.2)} if augmented else {}
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


def test_a_batch_has_one_size_and_all_sizes_and_mirrors_occur() -> None:
    sampler = TrainingBatchSampler(50, 8, (480, 576, 672, 736, 832), seed=0)
    batches = list(islice(sampler, 60))
    assert all(len({item.view.size for item in batch}) == 1 for batch in batches)
    assert {batch[0].view.size for batch in batches} == {480, 576, 672, 736, 832}
    mirrored = sum(item.view.mirror for batch in batches for item in batch)
    assert 0.4 < mirrored / (60 * 8) < 0.6
    plain = TrainingBatchSampler(50, 8, (64,), seed=0, mirror=False)
    assert not any(item.view.mirror for batch in islice(plain, 9) for item in batch)
    with pytest.raises(ValueError, match="5 images"):
        TrainingBatchSampler(50, 5, (64,), seed=0, world_size=2)


def test_augmentations_do_not_change_what_the_others_draw() -> None:
    crop, jitter = RandomCrop(), ColorJitter(0.2, 0.2, 0.2)
    options = [{}, {"crop": crop}, {"color_jitter": jitter}, {"crop": crop, "color_jitter": jitter}]
    plain, cropped, colored, both = (TrainingBatchSampler(50, 8, (64, 96), seed=3, **o).batch(7) for o in options)
    for items in zip(plain, cropped, colored, both, strict=True):
        assert len({(item.index, item.view.size, item.view.mirror) for item in items}) == 1
        assert items[0].view.crop is items[2].view.crop is items[0].colors is items[1].colors is None
        assert items[1].view == items[3].view and items[2].colors == items[3].colors
    assert len({item.view.crop for item in both}) == len({item.colors for item in both}) == 8


def test_samples_of_several_datasets_come_from_their_mappers_and_have_no_boxes() -> None:
    parts = [
        ([{"image_id": f"{name}{i}", "labels": [i], "annotations": object()} for i in range(count)], name)
        for name, count in (("a", 3), ("b", 1), ("c", 2))
    ]
    seen = []
    samples = TrainingSamples(
        [(records, lambda *arguments, name=name: seen.append((name, *arguments))) for records, name in parts]
    )
    assert len(samples) == 6
    for index in range(6):
        samples[ImageView(index, View(32, mirror=index % 2 == 0), ColorShift(index))]
    expected = [(name, record) for records, name in parts for record in records]
    for index, (name, record) in enumerate(expected):
        given = {"image_id": record["image_id"], "labels": record["labels"]}
        assert seen[index] == (name, given, View(32, mirror=index % 2 == 0), ColorShift(index))
