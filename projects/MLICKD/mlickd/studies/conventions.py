"""The same scores under every convention in use, side by side, each named in words.

Numbers of two publications compare only where these agree. What the project reports itself is one of them, and
:func:`mlickd.evaluation.metrics.multilabel_metrics` says which.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mlickd.evaluation.counting import count_predictions, precision_recall, prediction_prefixes
from mlickd.evaluation.metrics import check_protocol, checked_scores, threshold_rule
from mlickd.evaluation.ranking import RankingCurve, class_curves, order_dependent_extremes, ranking_curve

__all__ = ["CLASS_THRESHOLDS", "IMAGES", "Convention", "conventions", "metrics_by_convention"]

# Which images count.
IMAGES = {"all": "all images", "labeled": "images with a label"}

# Prefix of the metrics with a threshold for each class.
CLASS_THRESHOLDS = "class_thresholds/"

_RATES = {
    "CP": "CP: precision, mean of the classes",
    "CR": "CR: recall, mean of the classes",
    "CF1": "CF1: harmonic mean of CP and CR",
    "CF1_class_mean": "CF1: mean of the classes' F1",
    "OP": "OP: precision, all classes together",
    "OR": "OR: recall, all classes together",
    "OF1": "OF1: harmonic mean of OP and OR",
}


@dataclass(frozen=True)
class Convention:
    """One way to compute a number.

    Attributes:
        key: name of the value in :func:`metrics_by_convention`.
        group: what is common to several, in words.
        name: what is this one's, in words.
    """

    key: str
    group: str
    name: str


def conventions(threshold: float, topk: int, class_thresholds: bool = False) -> list[Convention]:
    """All of them, in the order of a table.

    Args:
        threshold, topk: see :func:`multilabel_metrics`.
        class_thresholds: with those for a threshold of each class.
    """
    rule = threshold_rule(threshold)
    listed = [
        Convention(key, "Average precision; equal scores enter the curve together", name)
        for key, name in (
            ("mAP/ranking", "mAP: ranking AP (not interpolated)"),
            ("mAP/voc12", "mAP: VOC 2010-2012 (precision envelope)"),
            ("mAP/voc07", "mAP: VOC 2007 (11 points)"),
            ("micro_AP", "micro AP: all classes in one ranking"),
        )
    ]
    groups = dict(
        zip(
            prediction_prefixes(topk),
            (
                f"Predicted: {rule}",
                f"Predicted: the {topk} highest scores of an image, whatever their value",
                f"Predicted: those of the {topk} highest scores of an image with {rule}",
            ),
            strict=True,
        )
    )
    if class_thresholds:
        groups[CLASS_THRESHOLDS] = "Predicted: score >= the threshold of its class (thresholds.json)"
    listed += [Convention(p + key, group, name) for p, group in groups.items() for key, name in _RATES.items()]
    listed += [
        Convention(key, "For comparison only: what other implementations may give", name)
        for key, name in (
            ("mAP/ties_worst", "mAP: ranking AP, a sort that puts negatives first among equals"),
            ("mAP/ties_best", "mAP: ranking AP, a sort that puts positives first among equals"),
            ("mAP/empty_classes_zero", "mAP: ranking AP, classes without a positive counted as 0"),
        )
    ]
    return listed


def metrics_by_convention(
    scores: np.ndarray,
    targets: np.ndarray,
    *,
    threshold: float = 0.5,
    topk: int = 3,
    class_thresholds: np.ndarray | None = None,
) -> dict[str, dict[str, float]]:
    """
    Every convention of :func:`conventions`, for all images and for those with a label.

    Classes without a positive are left out of class means, ignored entries count nowhere.

    Args:
        scores, targets, threshold, topk: see :func:`multilabel_metrics`.
        class_thresholds: (C,), one of each class, used in addition.

    Returns:
        Fractions by :attr:`Convention.key`, by key of IMAGES; "labeled" is left out where every image that counts has
        a label, for it is the same.

    Raises:
        ValueError: as :func:`multilabel_metrics`.
    """
    scores, targets = checked_scores(scores, targets)
    for of_classes in (threshold, class_thresholds):
        if of_classes is not None:
            check_protocol(of_classes, topk, "ranking")
    labeled = (targets == 1).any(axis=1)
    values = {"all": _metrics(scores, targets, threshold, int(topk), class_thresholds)}
    if not labeled[(targets != -1).any(axis=1)].all():
        values["labeled"] = _metrics(scores[labeled], targets[labeled], threshold, int(topk), class_thresholds)
    return values


def _metrics(
    scores: np.ndarray, targets: np.ndarray, threshold: float, topk: int, class_thresholds: np.ndarray | None
) -> dict[str, float]:
    known, positive = targets != -1, targets == 1
    positives = np.count_nonzero(positive, axis=0).astype(np.float64)
    values = dict(_average_precisions(class_curves(scores, known, positive)))
    values["micro_AP"] = ranking_curve(scores.ravel(), known.ravel(), positive.ravel()).average_precision()
    rules = dict(
        zip(
            prediction_prefixes(topk),
            count_predictions(scores, known, positive, threshold, topk),
            strict=True,
        )
    )
    if class_thresholds is not None:
        rules[CLASS_THRESHOLDS] = count_predictions(scores, known, positive, class_thresholds, topk)[0]
    for prefix, (hits, predicted) in rules.items():
        rates = precision_recall(hits, predicted, positives)
        values.update({prefix + name: float(value) for name, value in rates.items()})
    return values


def _average_precisions(curves: list[RankingCurve]) -> Iterator[tuple[str, float]]:
    """Means over the classes with a positive, by key."""
    counted = [curve for curve in curves if len(curve.positives)]

    def mean(values: list[float]) -> float:
        return float(np.mean(values)) if values else float("nan")

    for ap in ("ranking", "voc12", "voc07"):
        yield f"mAP/{ap}", mean([curve.average_precision(ap) for curve in counted])
    extremes = [order_dependent_extremes(curve) for curve in counted]
    yield "mAP/ties_worst", mean([worst for worst, _ in extremes])
    yield "mAP/ties_best", mean([best for _, best in extremes])
    yield "mAP/empty_classes_zero", float(sum(curve.average_precision() for curve in counted) / len(curves))
