"""Proposals of one image are valid, repeatable and find the objects; a store has the same proposals."""

from contextlib import nullcontext
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou

from mlickd.config import default_config
from mlickd.data import MultiLabelMapper, View, dataset_records, propose, write_store
from mlickd.data.build import build_proposer, build_test_mapper
from mlickd.data.proposals.dataset_proposals import generate_proposals
from mlickd.data.proposals.image_proposals import complete_parameters
from mlickd.data.proposals.proposal_methods import PROPOSAL_METHODS, sliding
from mlickd.errors import InputError

QUICK = {"longer_side": 90, "max_proposals": 60}


def drawing() -> np.ndarray:
    """Return an image of a disc and a rectangle on noise, BGR."""
    image = np.random.default_rng(0).integers(90, 110, (120, 160, 3)).astype(np.uint8)
    cv2.circle(image, (40, 60), 24, (20, 30, 220), -1)
    cv2.rectangle(image, (80, 30), (140, 90), (210, 180, 30), -1)
    return image


def best_overlap(box: list[float], boxes: np.ndarray) -> float:
    return box_iou(torch.tensor([box], dtype=torch.float32), torch.from_numpy(boxes)).max().item()


def assert_valid(boxes: np.ndarray, scores: np.ndarray, image: np.ndarray) -> None:
    height, width = image.shape[:2]
    assert boxes.dtype == scores.dtype == np.float32
    assert boxes.shape == (len(scores), 4) and len(scores) > 0
    assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] < boxes[:, 2:]).all()
    assert (boxes[:, 2:] <= (width, height)).all()
    assert (np.diff(scores) <= 0).all() and (scores > 0).all()
    assert len(np.unique(boxes, axis=0)) == len(boxes)


@pytest.mark.parametrize(("method", "side"), [("edge_boxes", 400), ("selective_search", 200)])
def test_proposals_find_the_objects_and_repeat(method: str, side: int, tiny_scenes: Path) -> None:
    parameters = {"longer_side": side}
    found = []
    for record in dataset_records("tiny_test"):
        image = cv2.imread(record["file_name"])
        boxes, scores = propose(image, method, parameters)
        assert_valid(boxes, scores, image)
        found += [best_overlap(item["bbox"], boxes) >= 0.5 for item in record["annotations"]]
    assert np.mean(found) > 0.8
    np.testing.assert_array_equal(boxes, propose(image, method, parameters)[0])
    few, _ = propose(image, method, {**parameters, "max_proposals": 7})
    np.testing.assert_array_equal(few, boxes[:7])
    boxes, scores = propose(np.full((30, 50, 3), 128, dtype=np.uint8), method)
    assert boxes.tolist() == [[0, 0, 50, 30]] and scores.tolist() == [1], "a plain image is one proposal"


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
    boxes, scores = propose(image, method, {"longer_side": longer_side, "min_side": 0.0})
    assert_valid(boxes, scores, image)


def test_selective_search_orders_by_seed_and_size() -> None:
    boxes, first, second = (propose(drawing(), "selective_search", {"seed": seed})[0] for seed in (0, 1, 2))
    assert not np.array_equal(boxes, first) and not np.array_equal(first, second)
    np.testing.assert_array_equal(np.unique(boxes, axis=0), np.unique(first, axis=0))
    sizes = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    third = len(boxes) // 3
    assert np.median(sizes[:third]) > np.median(sizes[-third:]), "larger boxes tend to come first"
    single = propose(drawing(), "selective_search", {"mode": "single"})[0]
    assert len(single) < len(boxes), "the default is fast"


def test_all_methods_share_parameters_of_size_and_number() -> None:
    assert complete_parameters("edge_boxes", {"smoothing": 3}) == complete_parameters("edge_boxes")
    image = drawing()
    boxes, _ = propose(image, "edge_boxes", {"min_side": 0.25, "longer_side": 160, "max_proposals": 5})
    assert len(boxes) == 5 and (boxes[:, 2:] - boxes[:, :2] >= 40).all()
    # A camera with more pixels gives the same proposals.
    larger = np.kron(image, np.ones((3, 3, 1), dtype=np.uint8))
    larger_boxes, _ = propose(larger, "edge_boxes", {"min_side": 0.25, "longer_side": 160, "max_proposals": 5})
    np.testing.assert_allclose(larger_boxes, 3 * boxes)


def test_a_method_can_be_added() -> None:
    def whole_image(image: np.ndarray, *, shrink: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        height, width = image.shape[:2]
        return np.array([[shrink, 0, width, height], [-9, -9, 2 * width, 9]]), np.array([0.5, 0.75])

    PROPOSAL_METHODS.register(whole_image)
    try:
        image = np.zeros((20, 40, 3), dtype=np.uint8)
        boxes, scores = propose(image, "whole_image", {"shrink": 10, "longer_side": 80})
        np.testing.assert_array_equal(boxes, [[0, 0, 40, 4.5], [5, 0, 40, 20]])
        np.testing.assert_array_equal(scores, [0.75, 0.5])
        assert complete_parameters("whole_image")["shrink"] == 0.0
    finally:
        del PROPOSAL_METHODS._obj_map["whole_image"]


@pytest.mark.parametrize(
    ("method", "parameters", "name"),
    [
        ("edge_boxes", {"mode": "fast"}, "mode"),
        ("edge_boxes", {"max_proposals": 0}, "max_proposals"),
        ("edge_boxes", {"min_side": "small"}, "min_side"),
        ("edge_boxes", {"beta": float("nan")}, "beta"),
        ("edge_boxes", {"beta": 1.0}, "beta"),
        ("edge_boxes", {"alpha": 0.8}, "alpha"),
        ("edge_boxes", {"neighborhood": 2**31}, "neighborhood"),
        ("sliding", {"longer_side": 10**12}, "longer_side"),
        ("selective_search", {"mode": "slow"}, "slow"),
        ("sliding", {"overlap": 0.95}, "overlap"),
    ],
)
def test_a_wrong_parameter_is_named(method: str, parameters: dict, name: str) -> None:
    with pytest.raises(InputError, match=name):
        propose(drawing(), method, parameters)


def test_an_array_that_is_not_an_image_is_refused() -> None:
    for shape, dtype, image_format in (((5, 5), "u1", "BGR"), ((5, 5, 3), "f4", "BGR"), ((5, 5, 3), "u1", "L")):
        with pytest.raises(InputError, match="propose: "):
            propose(np.zeros(shape, dtype), image_format=image_format)


@given(st.integers(1, 300), st.integers(1, 300), st.floats(0, 0.8), st.floats(0.2, 1))
@settings(max_examples=20)
def test_sliding_windows_are_in_the_image_reach_its_borders_and_overlap(height, width, overlap, smallest):
    windows, scores = sliding(np.zeros((height, width, 3), np.uint8), overlap=overlap, smallest=smallest)
    size = np.array([width, height])
    assert (windows[:, :2] >= 0).all() and (windows[:, :2] < windows[:, 2:]).all() and (scores == 1).all()
    np.testing.assert_allclose(windows[0], [0, 0, width, height])
    sides = np.round((windows[:, 2:] - windows[:, :2]) / size, 9)
    assert (sides.prod(axis=1) >= 0.5 * (smallest - 1e-9) ** 2).all()
    for shape in np.unique(sides, axis=0):
        same = windows[(sides == shape).all(axis=1)]
        np.testing.assert_allclose(same[:, :2].min(axis=0), 0, atol=1e-9)
        np.testing.assert_allclose(same[:, 2:].max(axis=0), size)
        distance = np.abs((same[:, :2] + same[:, 2:]) / 2 / size - 0.5).max(axis=1)
        assert (np.diff(distance) >= -1e-6).all(), "boxes in the center come first"
        if len(same) > 1:
            iou = box_iou(*[torch.as_tensor(same)] * 2).fill_diagonal_(0)
            assert iou.max(dim=1).values.min() >= overlap - 1e-6


def teacher_with(*options: object):
    cfg = default_config()
    cfg.MODEL.META_ARCHITECTURE, cfg.DATASETS.TRAIN = "WeaklySupervisedDetector", ("tiny_train",)
    cfg.merge_from_list(list(options))
    return cfg


@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
def test_samples_with_and_without_a_store_are_equal(image_format: str, tiny_scenes: Path, tmp_path: Path) -> None:
    records = dataset_records("tiny_test")[:3]
    store = generate_proposals(records, "selective_search", QUICK, tmp_path / "p", workers=0)
    arguments = {"image_format": image_format, "top_k": 40}
    proposer = partial(propose, method="selective_search", parameters=QUICK)
    mappers = [MultiLabelMapper(proposals=proposals, **arguments) for proposals in (store, proposer)]
    for record in records:
        first, second = (mapper(record, View(64, mirror=True))["proposals"] for mapper in mappers)
        assert first.proposal_boxes.tensor.equal(second.proposal_boxes.tensor)
        assert first.objectness.equal(second.objectness)


def test_new_photos_have_the_parameters_of_the_training_store(tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    defaults = complete_parameters("edge_boxes")
    assert build_proposer(teacher_with()).keywords == {"method": "edge_boxes", "parameters": defaults}
    assert "tiny_train_edge_boxes" in caplog.text
    path, other = tmp_path / "proposals" / "tiny_train_edge_boxes", tmp_path / "other"
    files = teacher_with("DATASETS.PROPOSALS.TRAIN_FILES", (str(other),))
    for cfg, place, method, parameters, error in (
        (teacher_with(), path, "edge_boxes", QUICK, None),
        (files, other, "sliding", {"overlap": 0.5}, None),
        (files, other, "voc_mat", {}, "voc_mat"),
        (teacher_with(), path, "edge_boxes", {"gone": 1}, "gone"),
    ):
        write_store(place, [], method, parameters, "")
        with nullcontext() if error is None else pytest.raises(InputError, match=error):
            expected = complete_parameters(method, parameters)
            assert build_proposer(cfg).keywords == {"method": method, "parameters": expected}


def test_an_existing_store_is_used(tiny_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = dataset_records("tiny_test")[:3]
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    cfg = teacher_with("INPUT.SIZE_TEST", 128)
    made = build_test_mapper(cfg, "tiny_test", can_propose=True)(records[0])["proposals"]
    assert len(made) > 10
    box = np.array([[1, 2, 30, 40]])
    path = tmp_path / "proposals" / "tiny_test_edge_boxes"
    write_store(path, [(record["image_id"], box, [1]) for record in records], "edge_boxes", {}, "")
    assert len(build_test_mapper(cfg, "tiny_test", can_propose=True)(records[0])["proposals"]) == 1
    assert len(build_test_mapper(cfg, can_propose=True)(records[0])["proposals"]) == len(made)
    cfg.MODEL.META_ARCHITECTURE = "MultiLabelClassifier"
    assert "proposals" not in build_test_mapper(cfg, can_propose=True)(records[0])
