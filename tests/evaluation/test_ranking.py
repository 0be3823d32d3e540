"""Effect of the order of equal scores on AP, and the micro-averaged precision-recall curve."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve

from mlickd.evaluation.ranking import micro_curve, order_dependent_extremes, ranking_curve


def extremes(scores: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    return order_dependent_extremes(ranking_curve(scores, targets != -1, targets == 1))


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6))
def test_extremes_agree_with_all_orders_of_the_data(items):
    scores, targets = np.array([s / 4 for s, _ in items]), np.array([int(t) for _, t in items])
    if not targets.any():
        assert all(map(math.isnan, extremes(scores, targets)))
        return
    found = []
    for order in itertools.permutations(range(len(items))):
        shuffled = list(order)
        places = np.flatnonzero(targets[shuffled][np.argsort(-scores[shuffled], kind="stable")])
        found.append(np.mean(np.arange(1, len(places) + 1) / (places + 1)))  # AP of a sorted list without ties
    assert extremes(scores, targets) == pytest.approx((min(found), max(found)))


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
