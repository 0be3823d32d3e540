"""Mean, spread and paired differences, against NumPy and SciPy's t test."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mlickd.evaluation.comparison import paired_difference, spread

values = st.lists(st.floats(0, 100), min_size=2, max_size=12)


@given(values, st.integers(0, 99), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_is_that_of_the_paired_t_test(reference: list[float], seed: int, confidence: float) -> None:
    others = np.asarray(reference) + np.random.default_rng(seed).normal(1.0, 2.0, len(reference))
    found = paired_difference(others, reference, confidence)
    expected = stats.ttest_rel(others, reference).confidence_interval(confidence)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-9)
    differences = others - reference
    assert found.mean == pytest.approx(differences.mean())
    squares = ((differences - differences.mean()) ** 2).sum()
    assert found.deviation == pytest.approx(np.sqrt(squares / (len(reference) - 1)))
    assert found.count == len(reference)


def test_three_pairs_by_hand() -> None:
    # Differences 1, 2 and 3: mean 2, deviation 1; t of 2 degrees of freedom at 97.5% is 4.302653 (any table).
    found = paired_difference([51.0, 62.0, 73.0], [50.0, 60.0, 70.0])
    assert (found.mean, found.deviation, found.count) == (2.0, 1.0, 3)
    assert found.low == pytest.approx(2 - 4.302653 / 3**0.5) and found.high == pytest.approx(2 + 4.302653 / 3**0.5)


@given(values)
def test_what_all_seeds_share_is_in_no_interval(reference: list[float]) -> None:
    found = paired_difference([value + 5 for value in reference], reference)
    assert found.mean == pytest.approx(5) and found.low == pytest.approx(5) and found.high == pytest.approx(5)


def test_one_pair_has_no_interval_and_none_no_difference() -> None:
    found = paired_difference([2.0], [1.0])
    assert (found.mean, found.deviation, found.count, found.low, found.high) == (1.0, None, 1, None, None)
    assert paired_difference([], []) is None
    assert spread([]) is None and spread([3.0]).deviation is None


@pytest.mark.parametrize(("arguments", "message"), [(([1.0], []), "to pair"), (([1.0], [1.0], 1.0), "confidence")])
def test_what_makes_no_pairs_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_difference(*arguments)
