"""Multi-label metrics, compared with their definitions, scikit-learn and values computed by hand."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from helpers.metric_problems import score_problems
from mlickd.evaluation import multilabel_metrics
from mlickd.evaluation.ranking import ranking_curve

RATES = ["CP", "CR", "CF1", "CF1_class_mean", "OP", "OR", "OF1"]
COUNTS = ["images", "images_ignored", "images_without_positives", "classes", "classes_without_positives"]
RULES = ["ranking", "voc12", "voc07"]


def average_precision(scores, targets, ap="ranking"):
    return ranking_curve(scores, targets != -1, targets == 1).average_precision(ap)


def slow_average_precision(scores, targets, ap):
    """Return the AP by its definition, in exact fractions: one (recall, precision) point per distinct threshold."""
    scores, targets = scores[targets >= 0], targets[targets >= 0]
    if targets.sum() == 0:
        return math.nan
    points = []
    for threshold in sorted(set(scores.tolist()), reverse=True):
        hits, predicted = int(targets[scores >= threshold].sum()), int((scores >= threshold).sum())
        points.append((Fraction(hits, int(targets.sum())), Fraction(hits, predicted)))

    def best(recall):
        return max((p for r, p in points if r >= recall), default=Fraction(0))

    if ap == "voc07":
        return float(sum(best(Fraction(k, 10)) for k in range(11)) / 11)
    recalls = [Fraction(0)] + [r for r, _ in points]
    return float(
        sum((r - before) * (p if ap == "ranking" else best(r)) for before, (r, p) in zip(recalls, points, strict=False))
    )


def slow_rates(predicted, targets):
    """Return precision, recall and F1 from (N, C) predictions, which may be fractional."""
    predicted, positive = np.where(targets >= 0, predicted, 0), targets == 1
    precisions, recalls, f1s = [], [], []
    for chosen, truth in zip(predicted.T, positive.T, strict=True):
        if truth.any():
            hits = chosen[truth].sum()
            precisions.append(hits / chosen.sum() if chosen.sum() else 0.0)
            recalls.append(hits / truth.sum())
            f1s.append(2 * hits / (chosen.sum() + truth.sum()))
    if not precisions:
        return dict.fromkeys(RATES, math.nan)
    cp, cr = np.mean(precisions), np.mean(recalls)
    hits = predicted[positive].sum()
    return {
        "CP": cp,
        "CR": cr,
        "CF1": 2 * cp * cr / (cp + cr) if cp + cr else 0.0,
        "CF1_class_mean": np.mean(f1s),
        "OP": hits / predicted.sum() if predicted.sum() else 0.0,
        "OR": hits / positive.sum(),
        "OF1": 2 * hits / (predicted.sum() + positive.sum()),
    }


def slow_topk(scores, targets, k):
    """Return the mean top-k decisions over all orders of tied scores; ignored classes are left out."""
    chosen = np.zeros(scores.shape)
    orders = list(itertools.permutations(range(scores.shape[1])))
    for row, (score, target) in enumerate(zip(scores, targets, strict=True)):
        for order in orders:
            ranked = sorted((c for c in order if target[c] >= 0), key=lambda c: -score[c])
            chosen[row, ranked[:k]] += 1 / len(orders)
    return chosen


@given(score_problems(max_images=30, max_classes=1), st.sampled_from(RULES))
def test_average_precision_agrees_with_its_definition(problem, ap):
    scores, targets = problem[0][:, 0], problem[1][:, 0]
    expected = slow_average_precision(scores, targets, ap)
    for transformed in (scores, np.exp(5 * scores.astype(np.float32)) - 100):  # only the order of the scores matters
        assert average_precision(transformed, targets, ap=ap) == pytest.approx(expected, abs=1e-12, nan_ok=True)
    if ap == "ranking" and (targets == 1).any():
        known = targets >= 0
        assert expected == pytest.approx(sklearn.metrics.average_precision_score(targets[known], scores[known]))


def test_a_recall_of_exactly_three_tenths_counts_in_voc07() -> None:
    targets = np.array([1] * 3 + [0] * 90 + [1] * 7)  # 0.3, which is below 3 * 0.1 in floating point
    assert average_precision(-np.arange(100.0), targets, ap="voc07") == pytest.approx((4 * 1.0 + 7 * 0.1) / 11)


THRESHOLDS = st.sampled_from([0.0, 0.25, 0.5, 0.6, 1.0])


@given(score_problems(max_images=8), st.data(), st.integers(1, 5))
def test_rates_agree_with_their_definitions(problem, data, topk):
    scores, targets = problem
    per_class = st.lists(THRESHOLDS, min_size=scores.shape[1], max_size=scores.shape[1])
    threshold = data.draw(THRESHOLDS | per_class)
    metrics = multilabel_metrics(scores, targets, threshold=threshold, topk=topk)
    above, top = scores >= np.array(threshold), slow_topk(scores, targets, topk)
    for prefix, predicted in (("", above), (f"top{topk}/", top), (f"top{topk}_thresholded/", top * above)):
        for key, value in slow_rates(predicted, targets).items():
            assert metrics[prefix + key] == pytest.approx(value, abs=1e-9, nan_ok=True), prefix + key
    aps = [slow_average_precision(s, t, "ranking") for s, t in zip(scores.T, targets.T, strict=True)]
    assert metrics["AP"] == pytest.approx(aps, abs=1e-12, nan_ok=True)
    finite = [ap for ap in aps if not math.isnan(ap)]
    assert metrics["mAP"] == pytest.approx(np.mean(finite) if finite else math.nan, nan_ok=True)


def test_images_and_labels_are_counted():
    targets = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [-1, -1, -1]])
    assert [multilabel_metrics(np.zeros((4, 3)), targets)[key] for key in COUNTS] == [3, 1, 1, 2, 1]


@pytest.mark.parametrize(
    ("scores", "targets", "expected"),
    [
        # The kinds of top-k differ if scores are low.
        ([[0.9, 0.2, 0.1]], [[1, 0, 0]], {"top3/OP": 1 / 3, "top3_thresholded/OP": 1, "top3/OR": 1}),
        # 0.7 in single precision is below 0.7 in double precision.
        (np.array([[0.7]], dtype=np.float32), [[1]], {"OR": 1}),
        (np.array([[1, 0], [0, 1]], dtype=np.float16), [[1, 0], [0, 1]], {"mAP": 1, "OF1": 1}),
        (np.array([[1, 0], [0, 1]], dtype=bool), [[1, 0], [0, 1]], {"mAP": 1, "OF1": 1}),
    ],
)
def test_conventions(scores, targets, expected):
    metrics = multilabel_metrics(np.array(scores), np.array(targets), threshold=0.7)
    assert {key: metrics[key] for key in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scores", "targets", "options", "message"),
    [
        ([[1.5, 0.0]], [[1, 0]], {}, "got 1.5 at image 0, class 0"),
        ([[0.5, 0.1], [np.nan, 0.1]], [[1, 0], [0, 1]], {}, "got nan at image 1, class 0"),
        ([0.5, 0.1], [1, 0], {}, r"shape \(N, C\)"),
        ([[0.5, 0.1]], [[2, 0]], {}, "targets"),
        (np.zeros((0, 3)), np.zeros((0, 3)), {}, "shape"),
        ([[0.5, 0.1]], [[1, 0]], {"threshold": [0.5, 1.5]}, "threshold .* 1.5"),
        ([[0.5, 0.1]], [[1, 0]], {"threshold": [0.5]}, "1 thresholds for 2 classes"),
        ([[0.5, 0.1]], [[1, 0]], {"topk": 0}, "topk"),
        ([[0.5, 0.1]], [[1, 0]], {"ap": "coco"}, "'coco'"),
    ],
)
def test_bad_input_is_refused(scores, targets, options, message):
    with pytest.raises(ValueError, match=message):
        multilabel_metrics(np.array(scores), np.array(targets), **options)
