"""What counts as predicted, by each of the rules in use, and the precision, recall and F1 that follow."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

__all__ = ["count_predictions", "mean_over_classes", "precision_recall", "prediction_prefixes", "predictions"]

# Rows of the score matrix whose intermediate arrays fit into a processor's cache.
_IMAGES_AT_ONCE = 1024


def prediction_prefixes(topk: int) -> tuple[str, str, str]:
    """What the names of the metrics begin with: by the threshold, in the top-k, and in both."""
    return "", f"top{topk}/", f"top{topk}_thresholded/"


def predictions(
    scores: np.ndarray, known: np.ndarray, threshold: float | np.ndarray, topk: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    What is predicted by the threshold, in the top-k, and in both.

    Args:
        scores: (N, C) probabilities.
        known: (N, C) booleans; entries of which nothing is known are never predicted and take no top-k place.
        threshold: of all classes, or (C,) of each.
        topk: number of classes predicted per image.

    Returns:
        Three (N, C) arrays of shares in 0..1: an entry has less than 1 where classes tie for the last top-k places.
    """
    # Compared in the precision of the scores: 0.7 in single precision is below 0.7 in double.
    above_threshold = known & (scores >= np.asarray(threshold, dtype=scores.dtype))
    in_topk = _topk_shares(scores, known, topk)
    return above_threshold, in_topk, in_topk * above_threshold


def count_predictions(
    scores: np.ndarray, known: np.ndarray, positive: np.ndarray, threshold: float | np.ndarray, topk: int
) -> np.ndarray:
    """(3, 2, C) true positives and predictions of each class, by the three rules of :func:`predictions`."""
    counts = np.zeros((3, 2, scores.shape[1]))
    for rows in _blocks(len(scores)):
        for rule, predicted in enumerate(predictions(scores[rows], known[rows], threshold, topk)):
            counts[rule] += _column_sums(predicted * positive[rows]), _column_sums(predicted)
    return counts


def precision_recall(hits: np.ndarray, predicted: np.ndarray, positives: np.ndarray) -> dict[str, np.ndarray]:
    """
    The seven precisions, recalls and F1 of :func:`mlickd.evaluation.metrics.multilabel_metrics`.

    Args:
        hits, predicted, positives: (..., C) true positives, predictions and positives of each class.

    Returns:
        (...) arrays by name; NaN where no class has a positive.
    """
    counted = positives > 0
    precision, recall = _ratio(hits, predicted), _ratio(hits, positives)
    class_precision, class_recall = mean_over_classes(counted, precision), mean_over_classes(counted, recall)
    all_hits, all_positives = hits.sum(axis=-1), positives.sum(axis=-1)
    unknown = np.where(all_positives > 0, 0.0, np.nan)
    overall_precision = _ratio(all_hits, predicted.sum(axis=-1)) + unknown
    overall_recall = _ratio(all_hits, all_positives) + unknown
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
    """(...) mean of (..., C) values over the classes that count; NaN where none does."""
    number = counted.sum(axis=-1)
    return np.where(counted, values, 0.0).sum(axis=-1) / np.where(number > 0, number, np.nan)


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(first, first + _IMAGES_AT_ONCE) for first in range(0, rows, _IMAGES_AT_ONCE))


def _column_sums(block: np.ndarray) -> np.ndarray:
    # A matrix product takes a fraction of the time of a sum over the first axis.
    return np.ones(len(block)) @ block.astype(np.float64, copy=False)


def _topk_shares(scores: np.ndarray, known: np.ndarray, topk: int) -> np.ndarray:
    """(N, C) share in 0..1 of each class in the top-k places of its image: min(k, known) in all."""
    topk = min(topk, scores.shape[1])
    ranked = np.where(known, scores, -1.0)
    last = np.partition(ranked, -topk, axis=1)[:, -topk, None]
    certain = ranked > last
    tied = (ranked == last) & known
    places = topk - certain.sum(axis=1, keepdims=True)
    sharing = tied.sum(axis=1, keepdims=True)
    if (sharing <= places).all():  # nobody has to share
        return certain | tied
    return certain + tied * (places / np.maximum(sharing, 1))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient, 0 where the denominator is 0."""
    return np.asarray(numerator / np.where(denominator == 0, 1.0, denominator))


def _harmonic_mean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _ratio(2.0 * a * b, np.asarray(a + b))
