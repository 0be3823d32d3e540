from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlickd.evaluation import bootstrap_metrics, multilabel_metrics
from mlickd.evaluation.bootstrap import percentile_interval


def slow_bootstrap(scores, targets, resamples, seed, **protocol):
    """By definition: the metrics of the images that are drawn."""
    generator = np.random.default_rng(seed)
    counted = (targets != -1).any(axis=1)
    scores, targets = scores[counted], targets[counted]
    for _ in range(resamples):
        drawn = generator.integers(len(scores), size=len(scores))
        metrics = multilabel_metrics(scores[drawn], targets[drawn], **protocol)
        yield {key: value for key, value in metrics.items() if isinstance(value, float)}


def draw(images=200, classes=6, seed=0):
    generator = np.random.default_rng(seed)
    targets = (generator.random((images, classes)) < 0.3).astype(np.int8)
    return 1 / (1 + np.exp(-generator.standard_normal((images, classes)) - 2 * targets + 1)), targets


@st.composite
def problems(draw):
    """Few images on a coarse grid: resamples lose classes, and all positives, and scores tie."""
    shape = draw(st.integers(1, 9)), draw(st.integers(1, 3))
    scores = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 6))) / 6
    targets = draw(hnp.arrays(np.int8, shape, elements=st.sampled_from((-1, 0, 0, 1, 1))))
    targets[0, 0] = max(targets[0, 0], 0)  # something is known
    return scores, targets


@given(problems(), st.sampled_from(["ranking", "voc12", "voc07"]), st.booleans(), st.integers(0, 99))
def test_each_resample_is_the_metrics_of_its_images(problem, ap, of_each_class, seed):
    scores, targets = problem
    threshold = np.linspace(0.3, 0.6, scores.shape[1]) if of_each_class else 0.4
    protocol = {"threshold": threshold, "topk": 2, "ap": ap}
    values = bootstrap_metrics(scores, targets, resamples=7, seed=seed, **protocol)
    for row, expected in enumerate(slow_bootstrap(scores, targets, 7, seed, **protocol)):
        assert values.keys() == expected.keys()
        for key, value in expected.items():
            assert values[key][row] == pytest.approx(value, abs=1e-12, nan_ok=True), key


@pytest.mark.parametrize("ap", ["ranking", "voc12", "voc07"])
def test_many_images(ap):
    scores, targets = draw()
    values = bootstrap_metrics(scores.astype(np.float32), targets, resamples=5, seed=3, ap=ap)
    for row, expected in enumerate(slow_bootstrap(scores.astype(np.float32), targets, 5, 3, ap=ap)):
        for key, value in expected.items():
            assert values[key][row] == pytest.approx(value), key


def test_resamples_in_blocks_are_the_same(monkeypatch):
    scores, targets = draw(30)
    expected = bootstrap_metrics(scores, targets, resamples=10, seed=1)
    monkeypatch.setattr("mlickd.evaluation.bootstrap._COUNTS_AT_ONCE", 3 * 30)
    in_blocks = bootstrap_metrics(scores, targets, resamples=10, seed=1)
    for key, value in expected.items():
        np.testing.assert_allclose(in_blocks[key], value, atol=1e-12)


def test_another_seed_draws_other_images():
    scores, targets = draw()
    first, second, again = (bootstrap_metrics(scores, targets, resamples=4, seed=s)["mAP"] for s in (0, 1, 0))
    assert not np.array_equal(first, second) and np.array_equal(first, again)


def test_the_difference_of_two_models_is_on_the_same_images():
    scores, targets = draw(400)
    better = np.clip(scores + 0.05 * (2 * targets - 1), 0, 1)
    one, other = (bootstrap_metrics(s, targets, resamples=300)["mAP"] for s in (scores, better))
    paired, apart = percentile_interval(other - one), percentile_interval(other - np.roll(one, 1))
    assert paired.low > 0  # each image is a little better
    assert paired.high - paired.low < (apart.high - apart.low) / 2


def test_the_spread_is_that_of_new_images():
    """Of the recall over all classes of independent entries, which is binomial."""
    generator = np.random.default_rng(5)
    targets = np.ones((400, 1), dtype=np.int8)
    scores = (generator.random((400, 1)) < 0.7).astype(float)
    interval = percentile_interval(bootstrap_metrics(scores, targets, resamples=4000)["OR"])
    share = scores.mean()
    assert (interval.high - interval.low) / 2 == pytest.approx(1.96 * math.sqrt(share * (1 - share) / 400), rel=0.08)


def test_resamples_without_a_positive_are_left_out_and_counted():
    scores, targets = np.array([[0.9], [0.1]]), np.array([[1], [0]])
    values = bootstrap_metrics(scores, targets, resamples=200)["mAP"]
    undefined = int(np.isnan(values).sum())
    assert 20 < undefined < 80  # a quarter has the second image twice
    interval = percentile_interval(values)
    assert (interval.low, interval.high, interval.undefined) == (1.0, 1.0, undefined)
    nothing = percentile_interval(np.array([math.nan, math.nan]))
    assert math.isnan(nothing.low) and math.isnan(nothing.high) and nothing.undefined == 2


def test_percentiles():
    interval = percentile_interval(np.random.default_rng(0).permutation(np.arange(1001.0)))
    assert (interval.low, interval.high, interval.undefined) == (pytest.approx(25), pytest.approx(975), 0)


@pytest.mark.parametrize(
    ("targets", "options", "message"),
    [
        ([[1, 0]], {"resamples": 0}, "resamples must be at least 1"),
        ([[1, 0]], {"threshold": 2.0}, "threshold"),
        ([[-1, -1]], {}, "nothing to resample"),
        ([[1, 2]], {}, "targets must be"),
    ],
)
def test_bad_input_is_refused(targets, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_metrics(np.array([[0.5, 0.5]]), np.array(targets), **options)
