"""Bootstrap confidence intervals of the multi-label metrics, over images.

Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13 (percentile intervals). A resample has as
many images as there are, drawn with replacement; here it is a vector of counts, by which the images are weighted, and
what does not depend on the counts is computed once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .counting import mean_over_classes, precision_recall, prediction_prefixes, predictions
from .metrics import check_protocol, checked_scores

__all__ = ["CONFIDENCE", "Interval", "bootstrap_metrics", "percentile_interval"]

CONFIDENCE = 0.95

# Counts of the resamples that are looked at together; more of them would leave a processor's cache.
_COUNTS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Interval:
    """
    Attributes:
        low, high: its ends; NaN where the value is undefined in every resample.
        undefined: number of resamples in which the value is undefined, and which are left out.
    """

    low: float
    high: float
    undefined: int


def bootstrap_metrics(
    scores: np.ndarray,
    targets: np.ndarray,
    *,
    resamples: int = 1000,
    seed: int = 0,
    threshold: float | np.ndarray = 0.5,
    topk: int = 3,
    ap: str = "ranking",
) -> dict[str, np.ndarray]:
    """
    The scalars of :func:`multilabel_metrics` on resampled images.

    Each value is what :func:`multilabel_metrics` gives for the images of that resample. So a class that has lost all
    its positives is left out of the class means of that resample, and where no positive is left at all the values are
    NaN. Images of which nothing is known (every target -1) are not drawn.

    The resamples depend on ``seed`` and the number of images alone: the values of two models on the same images, in
    the same order, are paired, and their differences are those on the same resamples.

    Args:
        scores: (N, C) probabilities.
        targets: (N, C) 1 positive, 0 negative, -1 ignore.
        resamples: B, at least 1.
        seed: of the random numbers.
        threshold, topk, ap: see :func:`multilabel_metrics`.

    Returns:
        (B,) float64 fractions by name.

    Raises:
        ValueError: as :func:`multilabel_metrics`; resamples below 1; no image of which something is known.
    """
    scores, targets = checked_scores(scores, targets)
    check_protocol(threshold, topk, ap)
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    counted = (targets != -1).any(axis=1)
    if not counted.any():
        raise ValueError("every target of every image is -1: there is nothing to resample")
    scores, targets = scores[counted], targets[counted]
    known, positive = targets != -1, targets == 1
    curves = [_ResampledCurve.of(*of_class) for of_class in zip(scores.T, known.T, positive.T, strict=True)]
    # Sums over images of what is predicted by each rule, of the hits among it, and of the positives, are products.
    predicted = [np.asarray(rule, dtype=np.float64) for rule in predictions(scores, known, threshold, int(topk))]
    summed = [array for rule in predicted for array in (rule * positive, rule)] + [positive.astype(np.float64)]

    blocks: dict[str, list[np.ndarray]] = {}
    for counts in _resample_counts(len(scores), resamples, seed):
        values = _metrics_of_counts(counts, curves, summed, prediction_prefixes(int(topk)), ap)
        for name, of_block in values.items():
            blocks.setdefault(name, []).append(of_block)
    return {name: np.concatenate(parts) for name, parts in blocks.items()}


def percentile_interval(values: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """The central part of (B,) bootstrapped values; NaN values are left out and counted."""
    defined = values[~np.isnan(values)]
    undefined = len(values) - len(defined)
    if not len(defined):
        return Interval(float("nan"), float("nan"), undefined)
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high), undefined)


def _resample_counts(images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """(images, b) how often each image is drawn, for blocks of the resamples."""
    generator = np.random.default_rng(seed)
    at_once = max(1, _COUNTS_AT_ONCE // images)
    for first in range(0, resamples, at_once):
        block = range(first, min(first + at_once, resamples))
        drawn = [np.bincount(generator.integers(images, size=images), minlength=images) for _ in block]
        yield np.stack(drawn, axis=1).astype(np.int32)


def _metrics_of_counts(
    counts: np.ndarray,
    curves: list[_ResampledCurve],
    summed: list[np.ndarray],
    prefixes: tuple[str, ...],
    ap: str,
) -> dict[str, np.ndarray]:
    *sums, positives = (counts.T.astype(np.float64) @ array for array in summed)
    per_class = np.stack([curve.average_precision(counts, ap) for curve in curves], axis=1)
    values = {"mAP": mean_over_classes(positives > 0, per_class)}
    for prefix, hits, predicted in zip(prefixes, sums[::2], sums[1::2], strict=True):
        rates = precision_recall(hits, predicted, positives)
        values.update({prefix + name: value for name, value in rates.items()})
    return values


@dataclass(frozen=True)
class _ResampledCurve:
    """The curve of one class, whose items can be counted any number of times.

    Attributes:
        items: (M,) places of the items that score as high as the lowest positive, best first.
        starts: (T,) where in ``items`` each part begins; a part ends with one of the T distinct scores of positives.
        positives: (P,) places of the positives, best first.
        positive_starts: (T,) where in ``positives`` each part begins.
    """

    items: np.ndarray
    starts: np.ndarray
    positives: np.ndarray
    positive_starts: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, known: np.ndarray, positive: np.ndarray) -> _ResampledCurve:
        """From (N,) scores, whether they count, and whether they are positives."""
        items = np.flatnonzero(known)
        items = items[np.argsort(-scores[items], kind="stable")]
        positives = items[positive[items]]
        descending = -scores[positives]
        _, positive_starts = np.unique(descending, return_index=True)
        ends = np.searchsorted(-scores[items], descending[positive_starts], side="right")
        starts = np.append(0, ends)[:-1].astype(np.intp)
        return cls(items[: ends[-1] if len(ends) else 0], starts, positives, positive_starts)

    def average_precision(self, counts: np.ndarray, ap: str) -> np.ndarray:
        """(b,) AP where the items are counted as in the columns of (N, b); NaN without a positive.

        The rules are those of :func:`mlickd.evaluation.ranking.area_under_curve`.
        """
        if not len(self.positives):
            return np.full(counts.shape[1], np.nan)
        predicted = np.add.reduceat(counts[self.items], self.starts, axis=0).cumsum(axis=0)
        found = np.add.reduceat(counts[self.positives], self.positive_starts, axis=0)
        true_positives = found.cumsum(axis=0)
        total = true_positives[-1]
        # A part of which no positive was drawn is no point of the curve. Its precision is at most that of the point
        # above, so the envelope does not see it, and the sum counts it 0 times.
        precision = true_positives / np.maximum(predicted, 1)
        if ap != "ranking":
            precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        if ap == "voc07":
            reached = [(10 * true_positives < level * total).sum(axis=0) for level in range(11)]
            area = np.mean([_rows(precision, rows) for rows in reached], axis=0)
        else:
            area = (found * precision).sum(axis=0) / np.maximum(total, 1)
        return np.where(total > 0, area, np.nan)


def _rows(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Of each column of (T, b) the value in that row; the last row where there is none."""
    return np.take_along_axis(values, np.minimum(rows, len(values) - 1)[None], axis=0)[0]
