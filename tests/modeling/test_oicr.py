"""The refinements of OICR against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from helpers.small_models import make_batch, teacher_config
from mlickd.modeling.roi_heads.oicr import oicr_pseudo_labels, oicr_refinement_loss


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(1, 4), st.sampled_from([0.3, 0.5, 0.9]), st.integers(0, 2**31))
def test_pseudo_labels_against_a_loop_over_regions(r: int, c: int, threshold: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    low = generator.uniform(0, 60, (r, 2))
    boxes = np.hstack([low, low + generator.uniform(5, 60, (r, 2))])
    scores, target = generator.random((r, c)), generator.choice([1, 0, -1], c, p=[0.5, 0.2, 0.3])
    arrays = torch.tensor(boxes), torch.tensor(scores), torch.tensor(target)
    labels, weights = oicr_pseudo_labels(*arrays, threshold)
    for region in range(r):
        best_overlap, expected_label, expected_weight = -1.0, c, 0.0
        for index in np.flatnonzero(target == 1):
            top = int(np.argmax(scores[:, index]))
            iou = overlap(boxes[region], boxes[top])
            if iou > best_overlap:
                best_overlap, expected_weight = iou, scores[top, index]
                expected_label = index if iou >= threshold else c
        for index in np.flatnonzero(target == -1):
            iou = overlap(boxes[region], boxes[int(np.argmax(scores[:, index]))])
            if iou >= threshold and iou > best_overlap:
                expected_weight = 0.0
        assert labels[region] == expected_label
        assert weights[region] == pytest.approx(expected_weight)


def test_refinement_loss_against_the_formula() -> None:
    generator = np.random.default_rng(0)
    logits, labels, weights = generator.normal(size=(5, 4)), np.array([0, 3, 1, 3, 2]), generator.random(5)
    expected = -(weights * log_softmax(logits, axis=1)[np.arange(5), labels]).mean()
    actual = oicr_refinement_loss(torch.tensor(logits), torch.tensor(labels), torch.tensor(weights))
    assert actual.item() == pytest.approx(expected, rel=1e-5)


@pytest.fixture
def teacher() -> torch.nn.Module:
    cfg = teacher_config()
    cfg.MODEL.ROI_HEADS.NAME = "OICRHeads"
    cfg.MODEL.OICR.NUM_REFINEMENTS = 2
    torch.manual_seed(0)
    return build_model(cfg)


def test_every_refinement_learns_only_from_labels_and_the_previous_stage(teacher: torch.nn.Module) -> None:
    losses = teacher.train()(make_batch())
    assert losses.keys() == {"loss_image", "loss_refinement_1", "loss_refinement_2"}
    losses["loss_refinement_2"].backward()
    first, second = teacher.roi_heads.refinement_streams
    assert second.weight.grad.abs().sum() > 0
    assert first.weight.grad is None and teacher.roi_heads.class_stream.weight.grad is None
    losses = teacher([{**sample, "labels": []} for sample in make_batch()])
    assert losses["loss_refinement_1"] == losses["loss_refinement_2"] == 0 and losses["loss_image"] > 0


def test_refined_scores_are_float32_in_mixed_precision(teacher: torch.nn.Module) -> None:
    batch = make_batch()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        _, predictions = teacher.eval().predict_regions([s["image"] for s in batch], [s["proposals"] for s in batch])
        logits = teacher.roi_heads.refinement_logits(predictions)
        scores = teacher.roi_heads.detection_scores(predictions)
    assert predictions.embeddings.dtype == torch.bfloat16
    assert {x.dtype for x in (*logits, *scores)} == {torch.float32}
