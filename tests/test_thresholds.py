"""Thresholds of the classes have the best F1, and belong to a checkpoint."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.metric_problems import score_problems
from mlickd.evaluation import multilabel_metrics
from mlickd.thresholds import best_f1_thresholds


def f1_at(scores: np.ndarray, targets: np.ndarray, threshold: float) -> float:
    predicted, positive = (scores >= threshold) & (targets >= 0), targets == 1
    return 2 * (predicted & positive).sum() / (predicted.sum() + positive.sum())


@given(score_problems(max_classes=3), st.sampled_from([np.float32, np.float64]), st.sampled_from([0.3, 0.5]))
def test_no_threshold_has_a_better_f1(problem, dtype, default):
    scores, targets = problem[0].astype(dtype), problem[1]
    thresholds, f1 = best_f1_thresholds(scores, targets, default)
    for column, target, threshold, value in zip(scores.T, targets.T, thresholds, f1, strict=True):
        if not (target == 1).any():
            assert threshold == default and math.isnan(value)
            continue
        column, target = column[target >= 0], target[target >= 0]
        tried = {level: f1_at(column, target, level) for level in np.unique(column)}
        assert 0 <= threshold <= 1
        assert value == pytest.approx(max(tried.values())) == f1_at(column, target, threshold)
        # Midway between two scores, or between the lowest and 0; of equally good thresholds the nearest to the default.
        below = {level: max([0.0, *column[column < level]]) for level in tried}
        best = [(level + below[level]) / 2 for level, f1 in tried.items() if f1 == max(tried.values())]
        assert abs(threshold - default) == pytest.approx(min(abs(other - default) for other in best))


def test_thresholds_separate_neighboring_scores_in_single_precision():
    low = np.float32(0.3)
    scores, targets = np.array([[low], [np.nextafter(low, np.float32(1))]]), np.array([[0], [1]])
    thresholds, _ = best_f1_thresholds(scores, targets)
    assert multilabel_metrics(scores, targets, threshold=thresholds)["OF1"] == 1.0
