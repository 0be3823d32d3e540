"""Labels that occur together, compared with counting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlickd.data.checking.split_checks import conditional_frequencies

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
