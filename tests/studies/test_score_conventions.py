"""Conventions in which implementations differ, computed by hand; test_metrics.py tests the other conventions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from helpers.metric_problems import score_problems
from mlickd.evaluation import multilabel_metrics
from mlickd.studies.score_conventions import CLASS_THRESHOLDS, metrics_by_convention


@given(score_problems(), st.integers(1, 3), st.sampled_from([0.25, 0.5]), st.booleans())
def test_every_value_agrees_with_the_metrics(problem, topk, threshold, tuned):
    scores, targets = problem
    class_thresholds = np.linspace(0.2, 0.8, scores.shape[1]) if tuned else None
    values = metrics_by_convention(scores, targets, threshold=threshold, topk=topk, class_thresholds=class_thresholds)
    labeled = (targets == 1).any(axis=1)
    unlabeled = ~labeled & (targets != -1).any(axis=1)
    assert ("labeled" in values) == bool(labeled.any() and unlabeled.any())
    for images, rows in (("all", slice(None)), ("labeled", labeled)):
        if images in values:
            metrics = multilabel_metrics(scores[rows], targets[rows], threshold=threshold, topk=topk, ap="voc07")
            known = targets[rows] != -1
            expected = {"mAP/voc07": metrics["mAP"], **{key: metrics[key] for key in ("OP", f"top{topk}/CF1")}}
            if (targets[rows] == 1).any():
                expected["micro_AP"] = average_precision_score(targets[rows][known], scores[rows][known])
            if tuned:
                metrics = multilabel_metrics(scores[rows], targets[rows], threshold=class_thresholds)
                expected[f"{CLASS_THRESHOLDS}CF1"] = metrics["CF1"]
            for key, value in expected.items():
                assert values[images][key] == pytest.approx(value, abs=1e-12, nan_ok=True), key
