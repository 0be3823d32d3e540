"""Boxes move with the pixels, and the pixels of the student do not depend on the teacher."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from mlickd.data import MultiLabelMapper, ProposalStore, View, write_store
from mlickd.data.mapper import map_at_sizes
from mlickd.decoding import max_reduction

TURNS = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


def write_image(folder: Path, size: tuple[int, int], box: tuple[int, ...], name: str = "a.png", turn: int = 1) -> dict:
    """Write a black image with a white box, turned by EXIF, and return its record. ``box`` is in the upright image."""
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    image, exif = Image.fromarray(pixels), Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    (image if turn == 1 else image.transpose(TURNS[turn])).save(folder / name, quality=98, exif=exif)
    return {"file_name": str(folder / name), "image_id": "a", "labels": [1]}


def open_store(folder: Path, boxes: list, scores: list) -> ProposalStore:
    arrays = np.array(boxes, dtype=np.float32), np.array(scores, dtype=np.float32)
    write_store(folder / "p", [("a", *arrays)], method="test", parameters={}, image_digest="test")
    return ProposalStore(folder / "p")


@settings(max_examples=40)
@given(
    st.sampled_from([("a.png", 1), ("a.jpg", 4)]), st.integers(75, 105), st.integers(75, 105), st.integers(15, 35),
    st.integers(15, 35), st.booleans(), st.sampled_from(sorted(TURNS)),
    st.sampled_from([None, (0.05, 0.11, 0.93, 0.97), (0.1, 0.0, 1.0, 0.8)]),
)  # fmt: skip
def test_proposals_move_with_the_pixels(tmp_path_factory, form, width, height, x0, y0, mirror, turn, crop) -> None:
    folder, (name, scale) = tmp_path_factory.mktemp("mapper"), form  # the JPEG is decoded at a fraction of its size
    box = tuple(scale * value for value in (x0, y0, x0 + 25, y0 + 28))
    record = write_image(folder, (scale * width, scale * height), box, name, turn)
    mapper = MultiLabelMapper(proposals=open_store(folder, [box], [0.5]), teacher_size=224)
    sample = mapper(record, View(48, mirror, crop))
    assert (sample["height"], sample["width"]) == (scale * height, scale * width)
    for prefix, side in (("", 48), ("teacher_", 224)):
        share = sample[f"{prefix}image"][0].double() / 255
        assert share.shape == (side, side)
        ((left, top, right, bottom),) = sample[f"{prefix}proposals"].proposal_boxes.tensor.tolist()
        places = torch.arange(side) + 0.5
        center = [float((share.sum(dim=dim) * places).sum() / share.sum()) for dim in (0, 1)]
        assert center == pytest.approx([(left + right) / 2, (top + bottom) / 2], abs=0.25)


@pytest.mark.parametrize("crop", [None, (0.1, 0.2, 0.8, 0.9)])
def test_the_view_of_the_student_does_not_depend_on_the_teacher(tmp_path: Path, crop) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((640, 480)).save(tmp_path / "a.jpg")
    record = {"file_name": str(tmp_path / "a.jpg"), "image_id": "a", "labels": []}
    store = open_store(tmp_path, [(0, 0, 640, 480)], [0.5])
    view = View(64, mirror=True, crop=crop)
    assert max_reduction(240, 320, 64) > max_reduction(480, 640, 300) == 1  # the teacher needs all pixels
    plain = MultiLabelMapper(view=view)(record)
    assert "proposals" not in plain and "teacher_image" not in plain and plain["view"] == view
    for mapper in (MultiLabelMapper(proposals=store, teacher_size=300), MultiLabelMapper(teacher_size=300)):
        assert torch.equal(mapper(record, view)["image"], plain["image"])


def test_both_views_have_the_same_regions_best_first(tmp_path: Path) -> None:
    record = write_image(tmp_path, (60, 50), (5, 6, 30, 40))
    boxes = [(0, 0, 30, 30), (2, 2, 6, 40), (10, 10, 50, 40), (1, 1, 20, 20)]
    store = open_store(tmp_path, boxes, [0.9, 0.7, 0.6, 0.3])
    sample = MultiLabelMapper(proposals=store, top_k=2, teacher_size=96)(record, View(48))
    small, large = sample["proposals"], sample["teacher_proposals"]
    torch.testing.assert_close(small.proposal_boxes.tensor * 2, large.proposal_boxes.tensor)
    assert small.objectness.tolist() == large.objectness.tolist() == pytest.approx([0.9, 0.7])


def test_student_and_teacher_have_separate_channel_orders(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), (0, 0, 200)).save(tmp_path / "b.png")
    record = {"file_name": str(tmp_path / "b.png"), "image_id": "b", "labels": []}
    mapper = MultiLabelMapper(image_format="RGB", teacher_size=20, teacher_format="BGR")
    sample = mapper(record, View(20))
    assert sample["image"][2].float().mean() == 200 == sample["teacher_image"][0].float().mean()
    assert sample["view"] == View(20)
    assert (sample["height"], sample["width"]) == (20, 20) and "height" not in record


def test_a_crop_without_proposals_shows_the_whole_image_unless_there_is_a_teacher(tmp_path: Path) -> None:
    record = write_image(tmp_path, (60, 50), (5, 6, 30, 40))
    store = open_store(tmp_path, [(0, 0, 9, 9)], [0.5])
    view = View(48, crop=(0.5, 0.5, 1.0, 1.0))
    sample = MultiLabelMapper(proposals=store)(record, view)
    assert sample["view"] == View(48) and len(sample["proposals"]) == 1
    sample = MultiLabelMapper(proposals=store, teacher_size=96)(record, view)
    assert sample["view"] == view and len(sample["proposals"]) == len(sample["teacher_proposals"]) == 0


def test_several_sizes_are_the_views_of_each_size(tmp_path: Path) -> None:
    record = write_image(tmp_path, (60, 50), (5, 6, 30, 40)) | {"annotations": []}
    mapper = MultiLabelMapper(proposals=open_store(tmp_path, [(5, 6, 30, 40), (0, 0, 9, 9)], [0.5, 0.4]))
    sample = map_at_sizes(record, mapper, (48, 96))
    assert sample.keys() == {"file_name", "image_id", "labels", "height", "width", "dataset", "views"}
    for size, view in zip((48, 96), sample["views"], strict=True):
        single = mapper(record, View(size))
        assert torch.equal(view["image"], single["image"])
        assert torch.equal(*(each["proposals"].proposal_boxes.tensor for each in (view, single)))
    assert map_at_sizes(record, MultiLabelMapper(), (32,))["views"][0].keys() == {"image"}
