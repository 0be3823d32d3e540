"""Confidence intervals of the multi-label metrics, by resampling images, and of the mean of several runs.

Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13 (percentile intervals).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from .counting import mean_over_classes
from .metrics import check_protocol, checked_scores, multilabel_metrics
from .ranking import class_average_precisions

CONFIDENCE = 0.95


def bootstrap_metrics(
    scores: np.ndarray,
    targets: np.ndarray,
    *,
    resamples: int = 1000,
    seed: int = 0,
    threshold: float | np.ndarray = 0.5,
    topk: int = 3,
    ap: str = "ranking",
    only_ap: bool = False,
) -> dict[str, np.ndarray]:
    """Compute :func:`multilabel_metrics` on resampled images. A resample of N images draws N images with replacement.

    A class without positives in a resample is left out of the class means of this resample, and a resample without any
    positive has NaN values. Images whose targets are all -1 are not drawn. The resamples depend only on ``seed`` and
    the number of images, so the values of two models on the same images in the same order are paired.

    Args:
        scores, targets, threshold, topk, ap: see :func:`multilabel_metrics`.
        resamples: B, at least 1.
        seed: seed of the random numbers.
        only_ap: compute only ``mAP`` and ``AP``, in about half of the time.

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
    generator = np.random.default_rng(seed)
    metrics = []
    for _ in range(resamples):
        drawn = generator.integers(len(scores), size=len(scores))
        arrays = scores[drawn], targets[drawn]
        if only_ap:
            per_class = np.array(class_average_precisions(arrays[0], arrays[1] != -1, arrays[1] == 1, ap))
            metrics.append({"mAP": float(mean_over_classes(~np.isnan(per_class), per_class)), "AP": per_class})
        else:
            metrics.append(multilabel_metrics(*arrays, threshold=threshold, topk=topk, ap=ap))
    names = [name for name, value in metrics[0].items() if name == "AP" or isinstance(value, float)]
    return {name: np.array([values[name] for values in metrics]) for name in names}


def percentile_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the ends of the confidence interval of (B,) bootstrapped values; NaN values are left out."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Summary:
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


def summarize(values: Sequence[float]) -> Summary | None:
    """Summarize values of several runs, or their paired differences.

    The confidence interval is ``mean ± t * s / sqrt(n)``, with the standard deviation s and the quantile t of Student's
    distribution with n - 1 degrees of freedom (Student 1908). It assumes a normal distribution of the values, and is
    not corrected for the number of comparisons.

    Returns:
        The summary, or None if there are no values.
    """
    if len(values) < 2:
        return Summary(float(values[0]), 1) if len(values) else None
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * deviation / len(values) ** 0.5
    return Summary(mean, len(values), deviation, mean - half, mean + half)
