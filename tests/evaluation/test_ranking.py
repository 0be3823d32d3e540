"""The micro-averaged precision-recall curve."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve

from mlickd.evaluation.ranking import micro_curve


@pytest.mark.parametrize("levels", [5, 1000])
def test_micro_precision_and_recall_agree_with_scikit_learn(levels: int) -> None:
    generator = np.random.default_rng(levels)
    targets = generator.integers(-1, 2, (40, 6))
    scores = generator.integers(0, levels, (40, 6)) / levels  # with ties
    precision, recall = micro_curve(scores, targets).precision_recall()
    known = targets != -1
    # scikit-learn goes from low scores to high, adds a point at recall 0, and has points at scores without a positive.
    *expected, thresholds = precision_recall_curve(targets[known], scores[known])
    points = np.isin(thresholds, scores[targets == 1])
    assert np.allclose(precision, expected[0][:-1][points][::-1])
    assert np.allclose(recall, expected[1][:-1][points][::-1])
