"""Multi-label classification metrics as pure functions on arrays.

Common implementations differ in the AP rule, in the treatment of ties, and in the definitions of CF1 and top-k. This
module reports both definitions of CF1 and of top-k, and the order of equal scores does not matter.
:func:`multilabel_metrics` also returns its protocol. All values are fractions in 0..1.
"""

from collections.abc import Sequence

import numpy as np

from .counting import count_predictions, mean_over_classes, precision_recall, prediction_prefixes
from .ranking import AVERAGE_PRECISION_RULES, class_average_precisions

# Metrics in the tables of the paper.
TABLE_METRICS = ("mAP", "CF1", "OF1", "top3/CF1", "top3/OF1")


def check_protocol(threshold: float | Sequence[float] | np.ndarray, topk: int, ap: str) -> None:
    """Raise ValueError unless thresholds are in 0..1, ``topk`` is at least 1 and ``ap`` in AVERAGE_PRECISION_RULES."""
    values = np.asarray(threshold, dtype=np.float64)
    valid = (values >= 0.0) & (values <= 1.0)  # False for NaN
    if values.ndim > 1 or not valid.all():
        wrong = values[~valid].flat[0] if not valid.all() else values.tolist()
        raise ValueError(f"threshold must be a probability in [0, 1], got {wrong}")
    if isinstance(topk, bool) or topk != int(topk) or topk < 1:
        raise ValueError(f"topk must be an integer of at least 1, got {topk}")
    if ap not in AVERAGE_PRECISION_RULES:
        raise ValueError(f"unknown AP rule '{ap}': choose one of {', '.join(AVERAGE_PRECISION_RULES)}")


def multilabel_metrics(
    scores: np.ndarray,
    targets: np.ndarray,
    *,
    threshold: float | Sequence[float] | np.ndarray = 0.5,
    topk: int = 3,
    ap: str = "ranking",
) -> dict:
    """Compute the common multi-label metrics under one named protocol.

    Three rules make predictions: ``score >= threshold`` (no prefix), the ``topk`` highest scores of an image (prefix
    ``top3/``), and both rules together (``top3_thresholded/``). For each rule:

    - ``CP``, ``CR``: precision and recall averaged over the classes that have a positive; the precision of a class that
      is never predicted is 0. ``CF1``: harmonic mean of CP and CR (ML-GCN, ASL, Q2L). ``CF1_class_mean``: mean over
      classes of per-class F1 (SRN, mmpretrain).
    - ``OP``, ``OR``, ``OF1``: from counts summed over all classes. This includes classes without a positive, whose
      predictions are false positives.

    Classes that tie for the last of the k places share these places equally, so the order of the classes does not
    matter. Equal scores for all classes give recall k/C and the prevalence as precision, like a random choice.

    Args:
        scores: (N, C) probabilities; logits are refused.
        targets: (N, C) 1 positive, 0 negative, -1 ignore. An ignored entry does not count and does not take a top-k
            place.
        threshold: minimum score of a prediction, one for all classes or (C,).
        topk: number of classes predicted per image; all classes if there are fewer.
        ap: rule of the average precision: "ranking" (step-wise, as in scikit-learn), "voc12" (area under the precision
            envelope) or "voc07" (11 points).

    Returns:
        dict of floats ``mAP, CP, CR, CF1, CF1_class_mean, OP, OR, OF1`` (the last seven also under ``f"top{topk}/"``
        and ``f"top{topk}_thresholded/"``; NaN without any positive), ``AP`` (list of C floats, NaN for a class without
        positives), the integers ``images, images_ignored, images_without_positives, classes,
        classes_without_positives``, and the dict ``protocol``. ``images`` does not include ``images_ignored`` (every
        target is -1), but includes images without a positive. ``classes`` does not include classes without a positive.

    Raises:
        ValueError: shapes differ or are empty, a score is not in [0, 1], a target is not -1, 0 or 1, or threshold, topk
            or ap is out of range.
    """
    scores, targets = checked_scores(scores, targets)
    check_protocol(threshold, topk, ap)
    topk, thresholds = int(topk), np.asarray(threshold, dtype=np.float64)
    if thresholds.ndim and thresholds.shape != scores.shape[1:]:
        raise ValueError(f"got {thresholds.size} thresholds for {scores.shape[1]} classes")

    known, positive = targets != -1, targets == 1
    positives = np.count_nonzero(positive, axis=0)
    counted_classes = positives > 0
    per_class = class_average_precisions(scores, known, positive, ap)
    metrics: dict = {"mAP": float(mean_over_classes(counted_classes, np.array(per_class)))}
    counts = count_predictions(scores, known, positive, thresholds, topk)
    for prefix, (true_positives, predicted) in zip(prediction_prefixes(topk), counts, strict=True):
        values = precision_recall(true_positives, predicted, positives.astype(np.float64))
        metrics.update({prefix + key: float(value) for key, value in values.items()})

    counted_images = known.any(axis=1)
    metrics["AP"] = per_class
    metrics["images"] = int(counted_images.sum())
    metrics["images_ignored"] = int((~counted_images).sum())
    metrics["images_without_positives"] = int((counted_images & ~positive.any(axis=1)).sum())
    metrics["classes"] = int(counted_classes.sum())
    metrics["classes_without_positives"] = int((~counted_classes).sum())
    rule = threshold_rule(thresholds)
    metrics["protocol"] = {
        "ap": ap,
        "ap_rule": AVERAGE_PRECISION_RULES[ap],
        "ties": "equal scores enter the AP curve together; ties at the last top-k place share it equally",
        "threshold": thresholds.tolist(),
        "threshold_rule": rule,
        "topk": topk,
        "topk_rule": f"the {topk} highest scores of an image, at any value; 'thresholded': only scores with {rule}",
        "images": "all except images with only ignored targets; images without a positive count",
        "classes": "mAP, CP, CR, CF1, CF1_class_mean: classes with a positive; OP, OR, OF1: all classes",
        "ignored": "entries with target -1 do not count and do not take a top-k place",
    }
    return metrics


def checked_scores(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, C) floating-point scores and targets, or raise the ValueError of :func:`multilabel_metrics`."""
    scores, targets = np.asarray(scores), np.asarray(targets)
    if not np.issubdtype(scores.dtype, np.floating):
        scores = scores.astype(np.float64)
    if scores.shape != targets.shape or scores.ndim != 2:
        raise ValueError(f"scores and targets must both have shape (N, C), got {scores.shape} and {targets.shape}")
    if not np.isin(targets, (-1, 0, 1)).all():
        raise ValueError("targets must be 1 (positive), 0 (negative) or -1 (ignore)")
    if scores.size == 0:
        raise ValueError(f"scores must hold at least one image and one class, got shape {scores.shape}")
    valid = (scores >= 0) & (scores <= 1)  # False for NaN
    if not valid.all():
        image, label = np.argwhere(~valid)[0]
        raise ValueError(
            f"scores must be probabilities in [0, 1], got {scores[image, label]} at image {image}, class {label}: "
            "apply the sigmoid to logits, and look for NaN in the model"
        )
    return scores, targets


def threshold_rule(thresholds: float | np.ndarray) -> str:
    """Return the rule of predictions by one threshold, or by (C,) thresholds, in words."""
    return "score >= the threshold of its class" if np.ndim(thresholds) else f"score >= {float(thresholds):g}"
