"""Both stages' losses against statements of their formulas in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlickd.distillation import SoftLabelDistiller, TeacherKnowledge, select_regions
from mlickd.distillation.feature import roi_feature_loss


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=4), st.integers(0, 2**31))
def test_feature_loss_is_the_equation_of_the_paper(counts: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    teacher, student = generator.normal(size=(2, sum(counts), 3, 2, 2))
    weights = generator.random(sum(counts))
    expected, first = 0.0, 0
    for count in counts:
        if count:
            rows = slice(first, first + count)
            weighted = weights[rows, None, None, None] * (teacher[rows] - student[rows])
            expected += np.sum(weighted**2) / count
        first += count
    expected /= 2 * len(counts)
    actual = roi_feature_loss(torch.tensor(teacher), torch.tensor(student), torch.tensor(weights), counts)
    assert actual.item() == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.floats(0.2, 6), st.floats(0, 3), st.integers(0, 2**31))
def test_soft_label_losses_are_those_of_paper_and_release(n, c, temperature, weight, seed) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(n, c)) * 3
    teacher = generator.random((n, c))
    student = 1 / (1 + np.exp(-logits / temperature))
    # -log(student) and -log(1 - student), exact for large logits too.
    positive, negative = np.logaddexp(0, -logits / temperature), np.logaddexp(0, logits / temperature)
    knowledge = [TeacherKnowledge(image_scores=torch.tensor(row)) for row in teacher]
    expected = {
        "l2": ((teacher - student) ** 2).sum() / (2 * n),
        "bce": (teacher * positive + (1 - teacher) * negative).sum() / n,
    }
    for loss, value in expected.items():
        distiller = SoftLabelDistiller(loss=loss, student_temperature=temperature, loss_weight=weight)
        assert distiller(torch.tensor(logits), knowledge).item() == pytest.approx(weight * value, rel=1e-6, abs=1e-9)


BOXES = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 40, 40], [5, 5, 30, 30]])
SCORES = torch.tensor([[0.1, 0.4], [0.05, 0.3], [0.2, 0.0], [0.01, 0.02]])
OBJECTNESS = torch.tensor([0.1, 0.9, 0.3, 0.2])


@pytest.mark.parametrize(
    ("options", "kept", "weights"),
    [
        ({"weight": "teacher", "normalize": False}, [0, 2, 3], [0.4, 0.2, 0.02]),
        ({"weight": "teacher", "normalize": True}, [0, 2, 3], [1.0, 0.5, 0.05]),
        ({"weight": "proposal", "normalize": False}, [1, 2, 3], [0.9, 0.3, 0.2]),
        ({"weight": "proposal", "normalize": False, "top_k": 1}, [1], [0.9]),
        ({"weight": "proposal", "normalize": False, "nms_thresh": 1.0, "top_k": 0}, [1, 2, 3, 0], [0.9, 0.3, 0.2, 0.1]),
        ({"weight": "uniform", "nms_thresh": 1.0}, [0, 1, 2, 3], [1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_regions_are_selected_by_the_rule_that_is_configured(options, kept, weights) -> None:
    keep, s = select_regions(BOXES, SCORES, OBJECTNESS, **options)
    assert keep.tolist() == kept
    assert s.tolist() == pytest.approx(weights)


def test_unknown_region_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="'best'"):
        select_regions(BOXES, SCORES, OBJECTNESS, weight="best")
