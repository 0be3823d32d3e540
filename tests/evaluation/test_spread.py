"""Mean, spread and confidence interval, against NumPy and SciPy's t test."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mlickd.evaluation.spread import Spread, spread


@given(st.lists(st.floats(0, 100), min_size=2, max_size=12), st.integers(0, 99))
def test_the_interval_of_differences_is_that_of_the_paired_t_test(reference: list[float], seed: int) -> None:
    others = np.asarray(reference) + np.random.default_rng(seed).normal(1.0, 2.0, len(reference))
    found = spread(others - reference)
    expected = stats.ttest_rel(others, reference).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-9)
    squares = ((others - reference - found.mean) ** 2).sum()
    assert found.deviation == pytest.approx(np.sqrt(squares / (len(reference) - 1)))
    assert found.count == len(reference)


def test_three_values_by_hand() -> None:
    # Mean 2, deviation 1; t of 2 degrees of freedom at 97.5% is 4.302653 (any table).
    found = spread([1.0, 2.0, 3.0])
    assert (found.mean, found.deviation, found.count) == (2.0, 1.0, 3)
    assert found.low == pytest.approx(2 - 4.302653 / 3**0.5) and found.high == pytest.approx(2 + 4.302653 / 3**0.5)
    assert (found.text(), found.text("+"), found.interval_text()) == ("2.0 ± 1.0", "+2.0 ± 1.0", "+2.0 [-0.5, +4.5]")


def test_a_single_value_has_no_spread() -> None:
    assert spread([]) is None and spread([3.0]) == Spread(3.0, 1)
    assert (spread([3.0]).text(), spread([3.0]).interval_text()) == ("3.0", "+3.0")
