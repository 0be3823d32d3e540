from __future__ import annotations

import numpy as np
import pytest

from mlickd.benchmarks.metrics import draw_scores, metrics_of_scikit_learn, metrics_of_torchmetrics
from mlickd.evaluation.metrics import multilabel_metrics


@pytest.mark.parametrize("reference", [metrics_of_torchmetrics, metrics_of_scikit_learn])
def test_all_give_the_same_figures(reference) -> None:
    pytest.importorskip("torchmetrics")
    scores, targets = draw_scores(500, 12)
    ours, theirs = multilabel_metrics(scores, targets), reference(scores, targets)
    assert theirs.keys() == {"AP", "mAP", "CP", "CR", "CF1_class_mean", "OP", "OR", "OF1"}
    for name, value in theirs.items():
        assert np.asarray(value) == pytest.approx(np.asarray(ours[name]), abs=1e-5), name


def test_scores_are_neither_perfect_nor_chance() -> None:
    scores, targets = draw_scores(2000, 80)
    assert targets.any(axis=0).all()
    assert 2 * targets.mean() < multilabel_metrics(scores, targets)["mAP"] < 0.95
