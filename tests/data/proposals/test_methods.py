from __future__ import annotations

import ctypes
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlickd.data import dataset_records
from mlickd.data.proposals.edge_map import gradient_edges
from mlickd.data.proposals.methods import PROPOSAL_METHODS, complete_parameters, proposals_for_image
from mlickd.errors import InputError


def drawing(height: int = 120, width: int = 160) -> np.ndarray:
    """A disc and a rectangle on noise, BGR."""
    image = np.random.default_rng(0).integers(90, 110, (height, width, 3)).astype(np.uint8)
    cv2.circle(image, (width // 4, height // 2), height // 5, (20, 30, 220), -1)
    cv2.rectangle(image, (width // 2, height // 4), (width * 7 // 8, height * 3 // 4), (210, 180, 30), -1)
    return image


def overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    common = np.clip(sides, 0, None).prod(axis=1)
    return common / (np.prod(box[2:] - box[:2]) + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - common)


def assert_valid(boxes: np.ndarray, scores: np.ndarray, image: np.ndarray) -> None:
    height, width = image.shape[:2]
    assert boxes.dtype == scores.dtype == np.float32
    assert boxes.shape == (len(scores), 4) and len(scores) > 0
    assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] < boxes[:, 2:]).all()
    assert (boxes[:, 2:] <= (width, height)).all()
    assert (np.diff(scores) <= 0).all() and (scores > 0).all()
    assert len(np.unique(boxes, axis=0)) == len(boxes)


@pytest.mark.parametrize("method", ["edge_boxes", "selective_search"])
def test_proposals_are_valid_and_hold_the_objects(method: str) -> None:
    image = drawing()
    boxes, scores = proposals_for_image(image, method)
    assert_valid(boxes, scores, image)
    for thing in ([16, 36, 64, 84], [80, 30, 140, 90]):
        assert overlap(np.array(thing, dtype=np.float32), boxes).max() > 0.7
    again = proposals_for_image(image, method)
    np.testing.assert_array_equal(boxes, again[0])
    np.testing.assert_array_equal(scores, again[1])


@settings(max_examples=15)
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    longer_side=st.integers(1, 90),
    method=st.sampled_from(["edge_boxes", "selective_search"]),
    seed=st.integers(0, 9),
)
def test_proposals_are_valid_for_any_image(height: int, width: int, longer_side: int, method: str, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    boxes, scores = proposals_for_image(image, method, {"longer_side": longer_side, "min_side": 0.0})
    assert_valid(boxes, scores, image)


@pytest.mark.parametrize("method", ["edge_boxes", "selective_search"])
def test_a_plain_image_is_one_proposal(method: str) -> None:
    boxes, scores = proposals_for_image(np.full((30, 50, 3), 128, dtype=np.uint8), method)
    np.testing.assert_array_equal(boxes, [[0, 0, 50, 30]])
    np.testing.assert_array_equal(scores, [1])


def test_order_of_selective_search_is_kept() -> None:
    image = drawing()
    boxes, scores = proposals_for_image(image, "selective_search")
    few, _ = proposals_for_image(image, "selective_search", {"max_proposals": 7})
    np.testing.assert_array_equal(few, boxes[:7])
    assert (scores == 1).all()


def test_order_of_selective_search_is_that_of_the_seed() -> None:
    boxes, first, second = (proposals_for_image(drawing(), "selective_search", {"seed": seed})[0] for seed in (0, 1, 2))
    assert not np.array_equal(boxes, first) and not np.array_equal(first, second)
    np.testing.assert_array_equal(np.unique(boxes, axis=0), np.unique(first, axis=0))
    sizes = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    third = len(boxes) // 3
    assert np.median(sizes[:third]) > np.median(sizes[-third:]), "larger ones tend to come first"


def test_random_numbers_of_another_thread_do_not_change_selective_search() -> None:
    library = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None)
    alone, _ = proposals_for_image(drawing(), "selective_search")
    enough = threading.Event()

    def draw() -> None:
        while not enough.is_set():
            library.rand()

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        beside = [proposals_for_image(drawing(), "selective_search")[0] for _ in range(3)]
    finally:
        enough.set()
        thread.join()
    for boxes in beside:
        np.testing.assert_array_equal(boxes, alone)


def test_modes_of_selective_search_give_ever_more() -> None:
    image = drawing(60, 80)
    counts = [
        len(proposals_for_image(image, "selective_search", {"mode": mode, "longer_side": 200})[0])
        for mode in ("single", "fast", "quality")
    ]
    assert counts == sorted(counts) and counts[0] < counts[-1]


def test_common_parameters() -> None:
    image = drawing()
    boxes, _ = proposals_for_image(image, "edge_boxes", {"min_side": 0.25, "max_proposals": 5})
    assert len(boxes) == 5
    assert (boxes[:, 2:] - boxes[:, :2] >= 40).all()
    # The same picture from a camera with more pixels.
    larger = np.kron(image, np.ones((3, 3, 1), dtype=np.uint8))
    boxes, _ = proposals_for_image(image, "edge_boxes", {"longer_side": 160, "max_proposals": 3})
    larger_boxes, _ = proposals_for_image(larger, "edge_boxes", {"longer_side": 160, "max_proposals": 3})
    np.testing.assert_allclose(larger_boxes, 3 * boxes)


def test_recall_on_scenes(tiny_scenes: Path) -> None:
    found = []
    for record in dataset_records("tiny_test"):
        boxes, _ = proposals_for_image(cv2.imread(record["file_name"]))
        found += [overlap(np.array(thing["bbox"]), boxes).max() >= 0.5 for thing in record["annotations"]]
    assert np.mean(found) > 0.85


def test_a_method_can_be_added() -> None:
    def whole_image(image: np.ndarray, *, shrink: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        height, width = image.shape[:2]
        return np.array([[shrink, 0, width, height], [-9, -9, 2 * width, 9]]), np.array([0.5, 0.75])

    PROPOSAL_METHODS.register(whole_image)
    try:
        image = np.zeros((20, 40, 3), dtype=np.uint8)
        boxes, scores = proposals_for_image(image, "whole_image", {"shrink": 10, "longer_side": 80})
        np.testing.assert_array_equal(boxes, [[0, 0, 40, 4.5], [5, 0, 40, 20]])
        np.testing.assert_array_equal(scores, [0.75, 0.5])
        assert complete_parameters("whole_image")["shrink"] == 0.0
    finally:
        del PROPOSAL_METHODS._obj_map["whole_image"]


@pytest.mark.parametrize(
    ("method", "parameters", "message"),
    [
        ("edgeboxes", {}, "unknown proposal method edgeboxes; give one of edge_boxes, selective_search"),
        ("edge_boxes", {"mode": "fast"}, "edge_boxes: unknown parameter mode; give one of longer_side"),
        ("edge_boxes", {"max_proposals": 0}, "give longer_side >= 1, max_proposals >= 1"),
        ("edge_boxes", {"max_proposals": 10.0}, "parameter max_proposals is 10.0; give a value like 500"),
        ("edge_boxes", {"max_proposals": True}, "parameter max_proposals is True"),
        ("edge_boxes", {"beta": float("nan")}, "parameter beta is nan"),
        ("edge_boxes", {"beta": 1.0}, "alpha and beta between 0 and 1"),
        ("edge_boxes", {"smoothing": 0}, "give smoothing, neighborhood and strength > 0"),
        ("selective_search", {"mode": 3}, "parameter mode is 3; give a value like 'fast'"),
        ("selective_search", {"mode": "slow"}, "mode is 'slow'; give single, fast or quality"),
        ("selective_search", {"seed": -1}, "seed is -1; give 0 or more"),
    ],
)
def test_wrong_parameters(method: str, parameters: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        proposals_for_image(drawing(), method, parameters)


def test_equal_parameters_are_one() -> None:
    assert complete_parameters("edge_boxes", {"smoothing": 3}) == complete_parameters("edge_boxes")


@pytest.mark.parametrize("angle", [0, 30, 60, 90, 120, 150])
def test_edges_lie_on_the_boundary_and_point_across_it(angle: int) -> None:
    y, x = np.mgrid[-50:51, -50:51]
    normal = np.radians(angle)
    distance = x * np.cos(normal) + y * np.sin(normal)
    image = np.repeat(np.where(distance > 0.1, 200, 60)[..., None], 3, axis=2).astype(np.uint8)
    edges, orientation = gradient_edges(image, smoothing=2.0, neighborhood=41, strength=0.4)
    assert edges.shape == orientation.shape == image.shape[:2]
    assert edges.dtype == orientation.dtype == np.float32
    assert (edges >= 0).all() and (edges <= 1).all()
    assert (orientation >= 0).all() and (orientation < np.pi).all()
    inner = np.hypot(x, y) < 35
    strong = (edges > 0.2) & inner
    assert np.abs(distance[strong]).max() <= 2
    assert 60 <= strong.sum() <= 200  # the line is 70 pixels long, and thin
    difference = np.angle(np.exp(2j * (orientation[strong] - normal))) / 2
    assert np.abs(difference).max() < np.radians(8)


def test_a_plain_image_has_no_edges() -> None:
    edges, _ = gradient_edges(np.full((9, 9, 3), 7, dtype=np.uint8), smoothing=2.0, neighborhood=5, strength=0.4)
    assert not edges.any()
