"""Predictions by threshold and by top-k, and their precision, recall and F1."""

import numpy as np


def prediction_prefixes(topk: int) -> tuple[str, str, str]:
    """Return the prefixes of the metrics of predictions by threshold, by top-k, and by both."""
    return "", f"top{topk}/", f"top{topk}_thresholded/"


def count_predictions(
    scores: np.ndarray, known: np.ndarray, positive: np.ndarray, threshold: float | np.ndarray, topk: int
) -> np.ndarray:
    """Count the true positives and the predictions of each class, by threshold, by top-k, and by both.

    Args:
        scores: (N, C) probabilities.
        known, positive: (N, C) booleans; an entry that is not known is never predicted and takes no top-k place.
        threshold: one for all classes, or (C,).
        topk: number of classes predicted per image.

    Returns:
        (3, 2, C); fractions count if classes tie for the last top-k places and share them.
    """
    # Compare in the precision of the scores, because 0.7 in single precision is below 0.7 in double precision.
    above_threshold = known & (scores >= np.asarray(threshold, dtype=scores.dtype))
    in_topk = _topk_fractions(scores, known, topk)
    rules = above_threshold, in_topk, in_topk * above_threshold
    return np.array([[(rule * positive).sum(axis=0), rule.sum(axis=0)] for rule in rules], dtype=np.float64)


def precision_recall(true_positives: np.ndarray, predicted: np.ndarray, positives: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the precisions, recalls and F1 of :func:`mlickd.evaluation.metrics.multilabel_metrics`.

    Args:
        true_positives, predicted, positives: (..., C) numbers of each class.

    Returns:
        (...) arrays by name; NaN if no class has a positive.
    """
    counted = positives > 0
    precision, recall = _ratio(true_positives, predicted), _ratio(true_positives, positives)
    class_precision, class_recall = mean_over_classes(counted, precision), mean_over_classes(counted, recall)
    all_true, all_positives = true_positives.sum(axis=-1), positives.sum(axis=-1)
    unknown = np.where(all_positives > 0, 0.0, np.nan)
    overall_precision = _ratio(all_true, predicted.sum(axis=-1)) + unknown
    overall_recall = _ratio(all_true, all_positives) + unknown
    return {
        "CP": class_precision,
        "CR": class_recall,
        "CF1": _harmonic_mean(class_precision, class_recall),
        "CF1_class_mean": mean_over_classes(counted, _harmonic_mean(precision, recall)),
        "OP": overall_precision,
        "OR": overall_recall,
        "OF1": _harmonic_mean(overall_precision, overall_recall),
    }


def mean_over_classes(counted: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the mean (...) of (..., C) values over the counted classes; NaN if no class counts."""
    number = counted.sum(axis=-1)
    return np.where(counted, values, 0.0).sum(axis=-1) / np.where(number > 0, number, np.nan)


def _topk_fractions(scores: np.ndarray, known: np.ndarray, topk: int) -> np.ndarray:
    """Return an (N, C) array: 1 for a class in the top k of an image, 0 for other classes, and a fraction for a class
    that ties for the last places. A row sums to min(k, known classes)."""
    topk = min(topk, scores.shape[1])
    ranked = np.where(known, scores, -1.0)
    last = np.partition(ranked, -topk, axis=1)[:, -topk, None]
    certain = ranked > last
    tied = (ranked == last) & known
    places = topk - certain.sum(axis=1, keepdims=True)
    sharing = tied.sum(axis=1, keepdims=True)
    if (sharing <= places).all():
        return certain | tied
    return certain + tied * (places / np.maximum(sharing, 1))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the quotient, or 0 if the denominator is 0."""
    return np.asarray(numerator / np.where(denominator == 0, 1.0, denominator))


def _harmonic_mean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _ratio(2.0 * a * b, np.asarray(a + b))
