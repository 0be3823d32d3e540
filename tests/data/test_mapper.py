"""Views: boxes move with the pixels, and the student's pixels do not depend on the teacher."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlickd.data import MultiLabelMapper, ProposalStore, View, write_store
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
