"""Bootstrapped metrics against metrics of the drawn images, and intervals of runs against SciPy's t test."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from helpers.metric_problems import score_problems
from mlickd.evaluation import bootstrap_metrics, multilabel_metrics
from mlickd.evaluation.intervals import Spread, percentile_interval, spread


def assert_is_metrics_of_drawn_images(values, scores, targets, seed, **protocol):
    generator = np.random.default_rng(seed)
    counted = (targets != -1).any(axis=1)
    scores, targets = scores[counted], targets[counted]
    for row in range(len(values["mAP"])):
        drawn = generator.integers(len(scores), size=len(scores))
        metrics = multilabel_metrics(scores[drawn], targets[drawn], **protocol)
        expected = {key: value for key, value in metrics.items() if isinstance(value, float)}
        assert {key: value[row] for key, value in values.items()} == pytest.approx(expected, abs=1e-12, nan_ok=True)


def draw(images=200, classes=6, seed=0):
    generator = np.random.default_rng(seed)
    targets = (generator.random((images, classes)) < 0.3).astype(np.int8)
    return 1 / (1 + np.exp(-generator.standard_normal((images, classes)) - 2 * targets + 1)), targets


# Few images: resamples lose classes and all positives, and scores tie.
@given(score_problems(max_classes=3), st.sampled_from(["ranking", "voc12", "voc07"]), st.booleans(), st.integers(0, 99))
def test_each_resample_has_the_metrics_of_its_images(problem, ap, per_class, seed):
    scores, targets = problem
    targets[0, 0] = max(targets[0, 0], 0)  # not all are ignored
    protocol = {"threshold": np.linspace(0.3, 0.6, scores.shape[1]) if per_class else 0.4, "topk": 2, "ap": ap}
    values = bootstrap_metrics(scores, targets, resamples=7, seed=seed, **protocol)
    assert_is_metrics_of_drawn_images(values, scores, targets, seed, **protocol)


@pytest.mark.parametrize("ap", ["ranking", "voc12", "voc07"])
def test_large_data_is_resampled_in_blocks(ap, monkeypatch):
    monkeypatch.setattr("mlickd.evaluation.intervals._COUNTS_PER_BLOCK", 3 * 200)
    scores, targets = draw()
    values = bootstrap_metrics(scores.astype(np.float32), targets, resamples=5, seed=3, ap=ap)
    assert_is_metrics_of_drawn_images(values, scores.astype(np.float32), targets, 3, ap=ap)
    only = bootstrap_metrics(scores.astype(np.float32), targets, resamples=5, seed=3, ap=ap, only_map=True)
    assert only.keys() == {"mAP", "AP"} and np.array_equal(only["mAP"], values["mAP"])
    np.testing.assert_allclose(np.nanmean(only["AP"], axis=1), only["mAP"])


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
    found = spread(others - reference)
    expected = stats.ttest_rel(others, reference).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-9)
    squares = ((others - reference - found.mean) ** 2).sum()
    assert found.deviation == pytest.approx(np.sqrt(squares / (len(reference) - 1)))
    assert found.count == len(reference)


def test_texts_and_a_single_value_without_spread() -> None:
    several, single = spread([1.0, 2.0, 3.0]), spread([3.0])
    assert (several.text(), several.interval_text()) == ("2.0 ± 1.0", "+2.0 [-0.5, +4.5]")
    assert spread([]) is None and single == Spread(3.0, 1)
    assert (single.text(), single.interval_text()) == ("3.0", "+3.0")
