"""Dependencies between labels, compared with counting."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlickd.evaluation.label_dependencies import conditional_frequencies, dependency_error

DECISIONS = st.tuples(st.integers(1, 12), st.integers(1, 5)).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)


@given(DECISIONS)
def test_conditional_frequencies_agree_with_counting(decisions: tuple[np.ndarray, np.ndarray]) -> None:
    positive, known = decisions
    fractions = conditional_frequencies(positive, known)
    for row, column in np.ndindex(fractions.shape):
        images = [n for n in range(len(positive)) if positive[n, row] and known[n, row] and known[n, column]]
        if row == column or not images:
            assert np.isnan(fractions[row, column])
        else:
            assert fractions[row, column] == pytest.approx(sum(positive[n, column] for n in images) / len(images))


def test_independent_predictions_have_a_large_dependency_error() -> None:
    generator = np.random.default_rng(0)
    truth = np.eye(3, dtype=bool)[generator.integers(0, 3, 3000)][:, [0, 0, 1, 1, 2, 2]]  # classes come in pairs
    independent = generator.random(truth.shape) < truth.mean(axis=0)
    frequencies, found = (conditional_frequencies(labels, np.ones_like(truth)) for labels in (truth, independent))
    same, wrong = dependency_error(frequencies, frequencies, found)
    assert same == (0, pytest.approx(1), 30)
    # The partner of a class is always present and predicted one time in three: 2/3 in 6 pairs, 1/3 in 24.
    assert wrong == (pytest.approx((6 * 2 / 3 + 24 / 3) / 30, abs=0.02), pytest.approx(0, abs=0.5), 30)


def test_models_are_compared_on_the_same_pairs() -> None:
    truth = np.array([[np.nan, 0.5, 0.2], [0.4, np.nan, 0.1], [0.3, 0.3, np.nan]])
    never = truth.copy()
    never[2] = np.nan  # this model never predicts the third class
    errors = dependency_error(truth, truth + 0.1, never)
    assert errors[0] == pytest.approx((0.1, 1, 4)) and errors[1][2] == 4
    assert dependency_error(truth, np.full((3, 3), np.nan))[0] == pytest.approx((math.nan, math.nan, 0), nan_ok=True)
    assert np.isnan(dependency_error(truth, np.full((3, 3), 0.5))[0][1]), "it does not vary"
