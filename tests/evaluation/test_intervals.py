"""Bootstrapped metrics, and intervals of runs against SciPy's t test."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mlickd.evaluation import bootstrap_metrics, multilabel_metrics
from mlickd.evaluation.intervals import Summary, percentile_interval, summarize


def test_resamples_of_models_are_paired_and_have_the_spread_of_the_images() -> None:
    generator = np.random.default_rng(0)
    targets = (generator.random((200, 6)) < 0.3).astype(np.int8)
    scores = 1 / (1 + np.exp(-generator.standard_normal((200, 6)) - 2 * targets + 1))
    protocol = {"threshold": 0.4, "topk": 2, "ap": "voc12"}
    values = bootstrap_metrics(scores, targets, resamples=200, seed=1, **protocol)
    whole = multilabel_metrics(scores, targets, **protocol)
    low, high = percentile_interval(values["OF1"])
    assert low < whole["OF1"] < high and values["AP"].shape == (200, 6)
    np.testing.assert_allclose(values["AP"].mean(axis=1), values["mAP"])
    # The same model, and images that do not count, change nothing.
    ignored = np.concatenate([targets, np.full((3, 6), -1)]), np.concatenate([scores, np.ones((3, 6))])
    again = bootstrap_metrics(*ignored[::-1], resamples=200, seed=1, **protocol)
    assert np.array_equal(again["OF1"], values["OF1"])
    # The overall recall is a mean over positives, so its standard error is known.
    found = (scores >= 0.4)[targets == 1]
    assert values["OR"].std() == pytest.approx(found.std() / len(found) ** 0.5, rel=0.2)


def test_intervals_leave_out_resamples_without_a_value():
    values = bootstrap_metrics(np.array([[0.9], [0.1]]), np.array([[1], [0]]), resamples=200)["mAP"]
    assert 20 < np.isnan(values).sum() < 80  # a quarter draws the second image twice
    assert percentile_interval(values) == (1.0, 1.0)
    assert all(map(math.isnan, percentile_interval(np.array([math.nan, math.nan]))))
    assert percentile_interval(np.random.default_rng(0).permutation(np.arange(1001.0))) == pytest.approx((25, 975))


@pytest.mark.parametrize(
    ("targets", "options", "message"),
    [([[1, 0]], {"resamples": 0}, "resamples"), ([[1, 0]], {"threshold": 2.0}, "threshold"), ([[-1, -1]], {}, "-1")],
)
def test_bad_input_is_refused(targets, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_metrics(np.array([[0.5, 0.5]]), np.array(targets), **options)


@given(st.lists(st.floats(0, 100), min_size=2, max_size=12), st.integers(0, 99))
def test_the_interval_of_differences_agrees_with_the_paired_t_test(reference: list[float], seed: int) -> None:
    others = np.asarray(reference) + np.random.default_rng(seed).normal(1.0, 2.0, len(reference))
    found = summarize(others - reference)
    expected = stats.ttest_rel(others, reference).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-9)
    squares = ((others - reference - found.mean) ** 2).sum()
    assert found.deviation == pytest.approx(np.sqrt(squares / (len(reference) - 1)))
    assert found.count == len(reference)


def test_texts_and_a_single_value_without_spread() -> None:
    several, single = summarize([1.0, 2.0, 3.0]), summarize([3.0])
    assert (several.text(), several.interval_text()) == ("2.0 ± 1.0", "+2.0 [-0.5, +4.5]")
    assert summarize([]) is None and single == Summary(3.0, 1)
    assert (single.text(), single.interval_text()) == ("3.0", "+3.0")
