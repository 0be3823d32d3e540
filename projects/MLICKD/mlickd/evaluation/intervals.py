"""Confidence intervals of the multi-label metrics, by resampling images, and of the mean of several runs.

Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13 (percentile intervals). A resample of N
images draws N images with replacement. Here, a resample is a vector of counts: how often each image is drawn. All
values that do not depend on the counts are computed once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.special import stdtrit

from .counting import mean_over_classes, precision_recall, prediction_prefixes, predictions
from .metrics import check_protocol, checked_scores
from .ranking import area_under_curve

CONFIDENCE = 0.95

# Number of counts that are processed together, so that they fit into the cache of a processor.
_COUNTS_PER_BLOCK = 1 << 20


def bootstrap_metrics(
    scores: np.ndarray,
    targets: np.ndarray,
    *,
    resamples: int = 1000,
    seed: int = 0,
    threshold: float | np.ndarray = 0.5,
    topk: int = 3,
    ap: str = "ranking",
    only_map: bool = False,
) -> dict[str, np.ndarray]:
    """Compute the scalars of :func:`multilabel_metrics` on resampled images.

    A class without positives in a resample is left out of the class means of this resample, and a resample without any
    positive has NaN values. Images whose targets are all -1 are not drawn. The resamples depend only on ``seed`` and
    the number of images, so the values of two models on the same images in the same order are paired.

    Args:
        scores, targets, threshold, topk, ap: see :func:`multilabel_metrics`.
        resamples: B, at least 1.
        seed: seed of the random numbers.
        only_map: compute only ``mAP``, which takes less time, and return the ``AP`` of each class.

    Returns:
        (B,) float64 fractions by name; (B, C) for ``AP``.

    Raises:
        ValueError: as in :func:`multilabel_metrics`, or ``resamples`` is below 1, or every image is ignored.
    """
    scores, targets = checked_scores(scores, targets)
    check_protocol(threshold, topk, ap)
    counted = (targets != -1).any(axis=1)
    if resamples < 1 or not counted.any():
        raise ValueError(f"needs resamples >= 1 and an image with a target that is not -1, got resamples={resamples}")
    scores, targets = scores[counted], targets[counted]
    known, positive = targets != -1, targets == 1
    curves = [_ResampledCurve(*columns) for columns in zip(scores.T, known.T, positive.T, strict=True)]
    # Multiplying by the counts sums the true positives, predictions and positives of the drawn images.
    rules = () if only_map else predictions(scores, known, threshold, int(topk))
    predicted = [np.asarray(rule, dtype=np.float64) for rule in rules]
    summands = [array for rule in predicted for array in (rule * positive, rule)] + [positive.astype(np.float64)]

    blocks = []
    for counts in _resample_counts(len(scores), resamples, seed):
        *sums, positives = (counts.T.astype(np.float64) @ array for array in summands)
        per_class = np.stack([curve.average_precision(counts, ap) for curve in curves], axis=1)
        values = {"mAP": mean_over_classes(positives > 0, per_class), **({"AP": per_class} if only_map else {})}
        for prefix, true_positives, chosen in zip(
            prediction_prefixes(int(topk)), sums[::2], sums[1::2], strict=not only_map
        ):
            rates = precision_recall(true_positives, chosen, positives)
            values.update({prefix + name: value for name, value in rates.items()})
        blocks.append(values)
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def percentile_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the ends of the confidence interval of (B,) bootstrapped values; NaN values are left out."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _resample_counts(images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield blocks of (images, b) counts: how often each image is drawn in each of b resamples."""
    generator = np.random.default_rng(seed)
    size = max(1, _COUNTS_PER_BLOCK // images)
    for first in range(0, resamples, size):
        block = range(first, min(first + size, resamples))
        drawn = [np.bincount(generator.integers(images, size=images), minlength=images) for _ in block]
        yield np.stack(drawn, axis=1).astype(np.int32)


class _ResampledCurve:
    """Precision-recall curve of one class for weighted images; a resample only changes the weights.

    Images are sorted once by descending score and grouped into T segments. Segment t ends with the last image that ties
    with the t-th distinct score of a positive. Images below the last positive do not change the AP.
    """

    def __init__(self, scores: np.ndarray, known: np.ndarray, positive: np.ndarray):
        """Sort the images of one class, from three (N,) arrays."""
        images = np.flatnonzero(known)
        images = images[np.argsort(-scores[images], kind="stable")]
        positives = images[positive[images]]
        descending = -scores[positives]
        _, starts = np.unique(descending, return_index=True)
        ends = np.searchsorted(-scores[images], descending[starts], side="right")
        shape = len(starts), len(scores)
        # Multiplying by the counts counts the drawn images of each part, and the positives among them.
        parts = (images, np.append(0, ends)), (positives, np.append(starts, len(positives)))
        self.images, self.positives = (
            csr_array((np.ones(b[-1], np.int32), chosen[: b[-1]], b), shape=shape) for chosen, b in parts
        )

    def average_precision(self, counts: np.ndarray, ap: str) -> np.ndarray:
        """Return the AP (b,) for each column of the counts (N, b); NaN without a positive."""
        if not self.positives.nnz:
            return np.full(counts.shape[1], np.nan)
        # A part without a drawn positive is not a point of the curve. It does not change the AP: its precision is not
        # above the precision of the previous point, and its weight in the sum is 0.
        predicted, found = ((parts @ counts).cumsum(axis=0) for parts in (self.images, self.positives))
        return area_under_curve(found, predicted, found[-1], ap)


@dataclass(frozen=True)
class Spread:
    """Summary of the values of several runs.

    Attributes:
        mean: arithmetic mean.
        count: number of values, n.
        deviation: standard deviation of the sample (divisor n - 1); None for a single value or if it is not used.
        low, high: ends of the confidence interval of the mean; None without an interval.
    """

    mean: float
    count: int
    deviation: float | None = None
    low: float | None = None
    high: float | None = None

    def text(self) -> str:
        """Return ``mean ± deviation``."""
        return f"{self.mean:.1f}" if self.deviation is None else f"{self.mean:.1f} ± {self.deviation:.1f}"

    def interval_text(self) -> str:
        """Return ``mean [low, high]``, each with its sign."""
        return f"{self.mean:+.1f}" if self.low is None else f"{self.mean:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def spread(values: Sequence[float]) -> Spread | None:
    """Summarize values of several runs, or their paired differences.

    The confidence interval is ``mean ± t * s / sqrt(n)``, with the standard deviation s and the quantile t of Student's
    distribution with n - 1 degrees of freedom (Student 1908). It assumes a normal distribution of the values, and is
    not corrected for the number of comparisons.

    Returns:
        The summary, or None if there are no values.
    """
    if len(values) < 2:
        return Spread(float(values[0]), 1) if len(values) else None
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * deviation / len(values) ** 0.5
    return Spread(mean, len(values), deviation, mean - half, mean + half)
