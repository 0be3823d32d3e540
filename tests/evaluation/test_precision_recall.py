"""Precision and recall of all decisions together, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve

from mlickd.evaluation.precision_recall import micro_precision_recall


@pytest.mark.parametrize("levels", [5, 1000])
def test_the_curve_is_that_of_scikit_learn(levels: int) -> None:
    generator = np.random.default_rng(levels)
    targets = generator.integers(-1, 2, (40, 6))
    scores = generator.integers(0, levels, (40, 6)) / levels  # with ties
    precision, recall = micro_precision_recall(scores, targets)
    known = targets != -1
    # scikit-learn goes from low scores to high and adds a point at recall 0.
    expected = precision_recall_curve(targets[known], scores[known])
    assert np.allclose(precision, expected[0][-2::-1]) and np.allclose(recall, expected[1][-2::-1])
    assert recall[-1] == 1 and (np.diff(recall) >= 0).all()


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        (np.zeros((2, 2)), np.zeros((2, 3)), "one shape"),
        (np.full((1, 2), np.nan), np.ones((1, 2)), "finite"),
        (np.zeros((2, 2)), np.zeros((2, 2)), "no positive"),
    ],
)
def test_what_has_no_curve_is_refused(scores: np.ndarray, targets: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        micro_precision_recall(scores, targets)
