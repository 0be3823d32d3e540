"""Conditional frequencies against counting one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlickd.evaluation.co_occurrence import conditional_frequencies, dependency_error

DECISIONS = st.tuples(st.integers(1, 12), st.integers(1, 5)).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)


@given(DECISIONS)
def test_frequencies_are_those_of_counting(decisions: tuple[np.ndarray, np.ndarray]):
    positive, known = decisions
    shares = conditional_frequencies(positive, known)
    for row in range(positive.shape[1]):
        for column in range(positive.shape[1]):
            images = [n for n in range(len(positive)) if positive[n, row] and known[n, row] and known[n, column]]
            if row == column or not images:
                assert np.isnan(shares[row, column])
            else:
                expected = sum(positive[n, column] for n in images) / len(images)
                assert shares[row, column] == pytest.approx(expected)


def test_the_truth_is_right_and_independent_guesses_are_not():
    generator = np.random.default_rng(0)
    kinds = generator.integers(0, 3, 3000)
    truth = np.eye(3, dtype=bool)[kinds][:, [0, 0, 1, 1, 2, 2]]  # classes come in pairs
    guesses = generator.random(truth.shape) < truth.mean(axis=0)
    shares = conditional_frequencies(truth)
    same, wrong = dependency_error(shares, shares, conditional_frequencies(guesses))
    assert same.mean_difference == 0 and same.correlation == pytest.approx(1) and same.pairs == 30
    # A partner is always there and never guessed more often than one time in three: 2/3 in 6 pairs, 1/3 in 24.
    assert wrong.mean_difference == pytest.approx((6 * 2 / 3 + 24 / 3) / 30, abs=0.02)
    assert abs(wrong.correlation) < 0.5 and wrong.pairs == 30


def test_models_are_compared_on_the_same_pairs():
    truth = np.array([[np.nan, 0.5, 0.2], [0.4, np.nan, 0.1], [0.3, 0.3, np.nan]])
    never = truth.copy()
    never[2] = np.nan  # this model predicts the third class nowhere
    errors = dependency_error(truth, truth + 0.1, never)
    assert [error.pairs for error in errors] == [4, 4]
    assert errors[0].mean_difference == pytest.approx(0.1) and errors[0].correlation == pytest.approx(1)
    nothing = dependency_error(truth, np.full((3, 3), np.nan))[0]
    assert nothing.pairs == 0 and np.isnan(nothing.mean_difference) and np.isnan(nothing.correlation)
    assert np.isnan(dependency_error(truth, np.full((3, 3), 0.5))[0].correlation), "it does not vary"
