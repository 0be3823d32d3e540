"""Conventions in which implementations agree, and conventions in which they differ, by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

from mlickd.evaluation import multilabel_metrics
from mlickd.studies.score_conventions import CLASS_THRESHOLDS, conventions, metrics_by_convention


def draw(images: int = 300, classes: int = 9, levels: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw scores that correlate with the labels, on few levels so that they tie, with a class of every frequency."""
    generator = np.random.default_rng(3)
    targets = (generator.random((images, classes)) < np.linspace(0.05, 0.6, classes)).astype(np.int64)
    scores = 1 / (1 + np.exp(-generator.standard_normal((images, classes)) - 2 * targets + 1))
    return (np.round(scores * levels) / levels if levels else scores).astype(np.float32), targets


def all_metrics(scores, targets, **options) -> dict[str, float]:
    return metrics_by_convention(np.asarray(scores, dtype=float), np.asarray(targets), **options)["all"]


@pytest.mark.parametrize("levels", [0, 7])
def test_scikit_learn_agrees(levels):
    scores, targets = draw(levels=levels)
    ours, predicted = all_metrics(scores, targets), scores >= 0.5
    theirs = {
        "mAP/ranking": average_precision_score(targets, scores, average="macro"),
        "micro_AP": average_precision_score(targets, scores, average="micro"),
        "CP": precision_score(targets, predicted, average="macro"),
        "CR": recall_score(targets, predicted, average="macro"),
        "CF1_class_mean": f1_score(targets, predicted, average="macro"),
        "OP": precision_score(targets, predicted, average="micro"),
        "OR": recall_score(targets, predicted, average="micro"),
        "OF1": f1_score(targets, predicted, average="micro"),
    }
    assert {key: ours[key] for key in theirs} == pytest.approx(theirs)


def test_two_kinds_of_cf1():
    # Class a is predicted once and right, of 2 positives: P 1, R 1/2, F1 2/3. Class b twice, once right: P 1/2, R 1, F1
    # 2/3. CP = CR = 3/4, so the harmonic mean is 3/4; the mean of the F1 is 2/3.
    values = all_metrics([[0.9, 0.9], [0.1, 0.9]], [[1, 1], [1, 0]])
    assert (values["CF1"], values["CF1_class_mean"]) == pytest.approx((3 / 4, 2 / 3))


def test_two_kinds_of_top_3():
    # One image, one label, found with 0.9; the next two have 0.2 and 0.1. Whatever their score, 1 of 3 is right; of
    # those with 0.5 or more, 1 of 1.
    values = all_metrics([[0.9, 0.2, 0.1, 0.05]], [[1, 0, 0, 0]])
    assert (values["top3/OP"], values["top3_thresholded/OP"]) == pytest.approx((1 / 3, 1.0))


def test_three_rules_of_average_precision():
    # Best first: wrong, right, right. Precision at the positives: 1/2, 2/3.
    values = all_metrics([[0.9], [0.8], [0.7]], [[0], [1], [1]])
    assert values["mAP/ranking"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert values["mAP/voc12"] == pytest.approx(2 / 3)  # the envelope lifts the first to what follows
    assert values["mAP/voc07"] == pytest.approx(2 / 3)
    # Best first: right, 8 wrong, right. Recall 1/2 is kept up to level 0.5: 6 of 11 levels at precision 1, 5 at 2/10.
    values = all_metrics(np.linspace(1, 0, 10)[:, None], [[1], *[[0]] * 8, [1]])
    assert values["mAP/ranking"] == values["mAP/voc12"] == pytest.approx((1 + 2 / 10) / 2)  # .600
    assert values["mAP/voc07"] == pytest.approx((6 * 1 + 5 * 2 / 10) / 11)  # .636


def test_a_tie_is_not_broken_by_the_order_of_the_data():
    # A constant score, one positive of 20: its AP depends on the order, from 1/20 to 1; chance has 1/20.
    for place in (0, 19):
        targets = (np.arange(20) == place).astype(int)[:, None]
        values = all_metrics(np.full((20, 1), 0.5), targets)
        assert values["mAP/ranking"] == values["mAP/ties_worst"] == 1 / 20
        assert values["mAP/ties_best"] == 1.0


def test_a_class_without_a_positive_is_left_out_and_not_counted_as_0():
    # Class a is ranked perfectly, class b has no positive: 1 of those with one, 1/2 where it counts as 0, as in
    # scikit-learn. Its prediction is still wrong: OP is 1 of 2.
    scores, targets = np.array([[0.9, 0.9], [0.1, 0.1]]), np.array([[1, 0], [0, 0]])
    values = all_metrics(scores, targets)
    assert (values["mAP/ranking"], values["mAP/empty_classes_zero"], values["OP"]) == (1.0, 1 / 2, 1 / 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert average_precision_score(targets, scores, average="macro") == values["mAP/empty_classes_zero"]


def test_images_without_a_label_counted_or_dropped():
    # The second image has no label, and class a is predicted there: it costs AP, which is 1 without it.
    values = metrics_by_convention(np.array([[0.6], [0.9]]), np.array([[1], [0]]))
    assert (values["all"]["mAP/ranking"], values["labeled"]["mAP/ranking"]) == (1 / 2, 1.0)
    assert (values["all"]["OP"], values["labeled"]["OP"]) == (1 / 2, 1.0)


@st.composite
def problems(draw):
    shape = draw(st.integers(1, 8)), draw(st.integers(1, 4))
    scores = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 8))) / 8
    return scores, draw(hnp.arrays(np.int8, shape, elements=st.sampled_from((-1, 0, 1))))


@given(problems(), st.integers(1, 3), st.sampled_from([0.25, 0.5]))
def test_shared_values_are_those_of_the_metrics(problem, topk, threshold):
    scores, targets = problem
    class_thresholds = np.linspace(0.2, 0.8, scores.shape[1])
    values = metrics_by_convention(scores, targets, threshold=threshold, topk=topk, class_thresholds=class_thresholds)
    labeled = (targets == 1).any(axis=1)
    unlabeled = ~labeled & (targets != -1).any(axis=1)
    assert ("labeled" in values) == bool(labeled.any() and unlabeled.any())
    for images, rows in (("all", slice(None)), ("labeled", labeled)):
        if images in values:
            metrics = multilabel_metrics(scores[rows], targets[rows], threshold=threshold, topk=topk, ap="voc07")
            tuned = multilabel_metrics(scores[rows], targets[rows], threshold=class_thresholds)
            expected = {"mAP/voc07": metrics["mAP"], "OP": metrics["OP"], f"{CLASS_THRESHOLDS}CF1": tuned["CF1"]}
            for key, value in (expected | {f"top{topk}/CF1": metrics[f"top{topk}/CF1"]}).items():
                assert values[images][key] == pytest.approx(value, abs=1e-12, nan_ok=True), key


@pytest.mark.parametrize("tuned", [False, True])
def test_every_value_has_a_name(tuned):
    scores, targets = draw(20, 4)
    values = all_metrics(scores, targets, topk=2, class_thresholds=np.full(4, 0.3) if tuned else None)
    named = conventions(0.5, 2, tuned)
    assert named.keys() == values.keys() and len(set(named.values())) == len(named)
