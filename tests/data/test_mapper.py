"""Views: boxes move with the pixels, and the student's pixels do not depend on the teacher."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from mlickd.data import MultiLabelMapper, ProposalStore, View, write_store
from mlickd.data.augmentation import ColorShift
from mlickd.data.mapper import MultiScaleMapper
from mlickd.errors import InputError


def write_image(folder: Path, width: int, height: int, box: tuple[int, int, int, int]) -> dict:
    """A black image with one white box; the record."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    x0, y0, x1, y1 = box
    image[y0:y1, x0:x1] = 255
    path = folder / "image.png"
    cv2.imwrite(str(path), image)
    return {"file_name": str(path), "image_id": "a", "height": height, "width": width, "labels": [1]}


def open_store(folder: Path, boxes: list, scores: list) -> ProposalStore:
    arrays = np.array(boxes, dtype=np.float32), np.array(scores, dtype=np.float32)
    write_store(folder / "p", [("a", *arrays)], method="test", parameters={}, image_digest="test")
    return ProposalStore.open(folder / "p")


@settings(max_examples=20, deadline=None)
@given(
    st.integers(40, 90), st.integers(40, 90), st.integers(0, 15), st.integers(0, 15), st.booleans(),
    st.sampled_from([48, 64, 100]),
)  # fmt: skip
def test_proposals_move_with_the_pixels(tmp_path_factory, width, height, x0, y0, mirror, size) -> None:
    folder = tmp_path_factory.mktemp("mapper")
    box = (x0, y0, x0 + 20, y0 + 22)
    record = write_image(folder, width, height, box)
    mapper = MultiLabelMapper(proposals=open_store(folder, [box], [0.5]), teacher_size=128)
    sample = mapper(record, View(size, mirror))
    for prefix, side in (("", size), ("teacher_", 128)):
        assert sample[f"{prefix}image"].shape == (3, side, side)
        white = (sample[f"{prefix}image"][0] > 127).nonzero()
        (found,) = sample[f"{prefix}proposals"].proposal_boxes.tensor
        (top, left), (bottom, right) = white.min(dim=0).values, white.max(dim=0).values + 1
        pixels = torch.tensor([left, top, right, bottom]).float()
        assert (found - pixels).abs().max() <= 1.0  # a half-covered pixel falls to either side


def test_the_view_of_the_student_does_not_depend_on_the_teacher(tiny_scenes: Path, tmp_path: Path) -> None:
    record = write_image(tmp_path, 60, 50, (5, 6, 30, 40))
    store = open_store(tmp_path, [(5, 6, 30, 40)], [0.5])
    plain = MultiLabelMapper()(record, View(48, mirror=True))
    distilled = MultiLabelMapper(proposals=store, teacher_size=96)(record, View(48, mirror=True))
    assert torch.equal(plain["image"], distilled["image"])
    assert "proposals" not in plain and "teacher_image" not in plain
    assert plain["view"] == distilled["view"] == View(48, mirror=True)


def test_region_i_is_the_same_region_in_both_views_and_the_best_come_first(tmp_path: Path) -> None:
    record = write_image(tmp_path, 60, 50, (5, 6, 30, 40))
    boxes = [(0, 0, 30, 30), (10, 10, 50, 40), (2, 2, 6, 40)]
    mapper = MultiLabelMapper(
        proposals=open_store(tmp_path, boxes, [0.9, 0.6, 0.3]), top_k=2, min_side=5, teacher_size=96
    )
    sample = mapper(record, View(48))
    small, large = sample["proposals"], sample["teacher_proposals"]
    torch.testing.assert_close(small.proposal_boxes.tensor * 2, large.proposal_boxes.tensor)
    assert small.objectness.tolist() == large.objectness.tolist() == pytest.approx([0.9, 0.6])


def test_views_of_other_channel_orders_are_swapped(tmp_path: Path) -> None:
    image = np.zeros((20, 20, 3), dtype=np.uint8)
    image[..., 0] = 200  # blue, as OpenCV writes it
    cv2.imwrite(str(tmp_path / "b.png"), image)
    record = {"file_name": str(tmp_path / "b.png"), "image_id": "b", "labels": []}
    sample = MultiLabelMapper(image_format="RGB", teacher_size=20, teacher_format="BGR")(record, View(20))
    assert sample["image"][2].float().mean() == 200 and sample["teacher_image"][0].float().mean() == 200


def test_a_record_without_sizes_gets_those_of_the_image(tmp_path: Path) -> None:
    record = write_image(tmp_path, 60, 50, (5, 6, 30, 40))
    del record["height"], record["width"]
    sample = MultiLabelMapper()(record, View(48))
    assert (sample["height"], sample["width"]) == (50, 60) and "height" not in record


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"not an image")
    with pytest.raises(InputError, match="broken.jpg"):
        MultiLabelMapper()({"file_name": str(path), "image_id": "x", "labels": []}, View(32))


def write_photo(folder: Path, width: int, height: int, box: tuple[int, int, int, int], turn: int) -> dict:
    """A black JPEG with one white box, stored turned; the record. ``box`` is of the upright image."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    x0, y0, x1, y1 = box
    pixels[y0:y1, x0:x1] = 255
    back = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[turn]
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    (image if back is None else image.transpose(back)).save(folder / "photo.jpg", quality=98, exif=exif)
    return {"file_name": str(folder / "photo.jpg"), "image_id": "a", "labels": [1]}


@settings(max_examples=25)
@given(
    st.integers(300, 420), st.integers(300, 420), st.integers(60, 140), st.integers(60, 140), st.booleans(),
    st.sampled_from([1, 3, 6, 8]), st.sampled_from([None, (0.05, 0.11, 0.93, 0.97), (0.1, 0.0, 1.0, 0.8)]),
)  # fmt: skip
def test_proposals_move_with_the_pixels_of_a_reduced_photo(
    tmp_path_factory, width, height, x0, y0, mirror, turn, crop
) -> None:
    folder = tmp_path_factory.mktemp("photo")
    box = (x0, y0, x0 + 100, y0 + 110)
    record = write_photo(folder, width, height, box, turn)
    mapper = MultiLabelMapper(proposals=open_store(folder, [box], [0.5]), teacher_size=224)
    sample = mapper(record, View(48, mirror, crop))
    assert (sample["height"], sample["width"]) == (height, width)
    for prefix, side in (("", 48), ("teacher_", 224)):
        share = sample[f"{prefix}image"][0].double() / 255
        ((left, top, right, bottom),) = sample[f"{prefix}proposals"].proposal_boxes.tensor.tolist()
        places = torch.arange(side) + 0.5
        center = [float((share.sum(dim=dim) * places).sum() / share.sum()) for dim in (0, 1)]
        assert center == pytest.approx([(left + right) / 2, (top + bottom) / 2], abs=0.25)


def test_a_reduced_photo_looks_like_the_whole_one(tmp_path: Path) -> None:
    y, x = np.mgrid[:400, :600]
    waves = 127 + 100 * np.sin(x / 40 + y / 60)
    Image.fromarray(np.stack([waves, 255 - waves, y / 2], axis=2).astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    whole = Image.open(tmp_path / "a.jpg").convert("RGB")
    for view in (View(40), View(90), View(180), View(64, crop=(0.123, 0.2, 0.9, 0.77))):
        part = whole.crop(view.crop_in_pixels(400, 600))
        expected = np.asarray(part.resize((view.size, view.size), Image.Resampling.BILINEAR)).astype(float)
        found = MultiLabelMapper()({"file_name": str(tmp_path / "a.jpg"), "image_id": "a"}, view)["image"]
        error = ((found.permute(1, 2, 0).numpy() - expected) ** 2).mean()
        assert 10 * np.log10(255**2 / error) > 38


@pytest.mark.parametrize("crop", [None, (0.1, 0.2, 0.8, 0.9)])
def test_a_photo_decoded_for_two_views_gives_the_student_what_it_gives_without_a_teacher(tmp_path: Path, crop) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((640, 480)).save(tmp_path / "a.jpg")
    record = {"file_name": str(tmp_path / "a.jpg"), "image_id": "a", "labels": []}
    store = open_store(tmp_path, [(0, 0, 640, 480)], [0.5])
    view = View(64, mirror=True, crop=crop)
    assert view.reduction(480, 640) > view.reduction(480, 640, 300) == 1
    plain = MultiLabelMapper()(record, view)["image"]
    for mapper in (MultiLabelMapper(proposals=store, teacher_size=300), MultiLabelMapper(teacher_size=300)):
        assert torch.equal(mapper(record, view)["image"], plain)


def test_only_the_student_sees_other_colors(tmp_path: Path) -> None:
    record = write_image(tmp_path, 60, 50, (5, 6, 30, 40))
    store = open_store(tmp_path, [(5, 6, 30, 40)], [0.5])
    mapper = MultiLabelMapper(proposals=store, teacher_size=48)
    true, changed = mapper(record, View(48)), mapper(record, View(48), ColorShift(brightness=0.5))
    assert torch.equal(true["teacher_image"], changed["teacher_image"])
    assert true["image"].max() == 255 and changed["image"].max() == 127
    assert true["view"] == changed["view"]
    assert torch.equal(mapper(record, View(48), ColorShift())["image"], true["image"])


def test_a_crop_without_a_region_is_the_whole_image_for_a_detector_alone(tmp_path: Path) -> None:
    record = write_image(tmp_path, 60, 50, (5, 6, 15, 16))
    store = open_store(tmp_path, [(5, 6, 15, 16)], [0.5])
    view = View(48, mirror=True, crop=(0.5, 0.5, 1, 1))
    whole = View(48, mirror=True)
    sample = MultiLabelMapper(proposals=store)(record, view)
    assert sample["view"] == whole and len(sample["proposals"]) == 1
    assert torch.equal(sample["image"], MultiLabelMapper()(record, whole)["image"])
    # In distillation the student's pixels are those of every other mode, and nothing is known of the crop.
    sample = MultiLabelMapper(proposals=store, teacher_size=96)(record, view)
    assert sample["view"] == view and len(sample["proposals"]) == len(sample["teacher_proposals"]) == 0
    assert torch.equal(sample["image"], MultiLabelMapper()(record, view)["image"])


def test_several_sizes_are_the_views_of_each_size_and_nothing_twice(tmp_path: Path) -> None:
    record = write_image(tmp_path, 60, 50, (5, 6, 30, 40)) | {"annotations": []}
    mapper = MultiLabelMapper(proposals=open_store(tmp_path, [(5, 6, 30, 40), (0, 0, 9, 9)], [0.5, 0.4]))
    sample = MultiScaleMapper(mapper, (48, 96))(record)
    assert not sample.keys() & {"image", "proposals", "view", "annotations"}
    assert (sample["height"], sample["width"], sample["image_id"]) == (50, 60, "a")
    for size, view in zip((48, 96), sample["views"], strict=True):
        alone = mapper(record, View(size))
        assert torch.equal(view["image"], alone["image"])
        boxes = [s["proposals"].proposal_boxes.tensor for s in (view, alone)]
        assert torch.equal(*boxes) and view["proposals"].image_size == (size, size)
    assert MultiScaleMapper(MultiLabelMapper(), (32,))(record)["views"][0].keys() == {"image"}
