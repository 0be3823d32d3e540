"""Statistics of runs that differ in their seeds alone: mean and spread, and the difference of pairs of equal seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

__all__ = ["CONFIDENCE", "PairedDifference", "Spread", "paired_difference", "spread"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """Values of several runs.

    Attributes:
        mean: arithmetic mean.
        deviation: standard deviation of the sample (divisor n - 1); None of a single value.
        count: n.
    """

    mean: float
    deviation: float | None
    count: int


@dataclass(frozen=True)
class PairedDifference(Spread):
    """Differences of pairs.

    Attributes:
        low, high: ends of the confidence interval of the mean; None of a single pair.
    """

    low: float | None
    high: float | None


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and standard deviation of the sample; None of no value."""
    if len(values) == 0:
        return None
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(float(np.mean(values)), deviation, len(values))


def paired_difference(
    values: Sequence[float], reference: Sequence[float], confidence: float = CONFIDENCE
) -> PairedDifference | None:
    """The mean of ``values - reference``, pair by pair, with its confidence interval by Student's t.

    ``mean ± t * s / sqrt(n)`` with the standard deviation s of the n differences and the quantile t of Student's
    distribution with n - 1 degrees of freedom (Student 1908): differences are taken as normally distributed. A single
    comparison; nothing is corrected for how many are made.

    Args:
        values, reference: n runs each, in the same order of seeds.
        confidence: of the two-sided interval, in 0..1.

    Returns:
        None of no pair.

    Raises:
        ValueError: they are not as many, or the confidence is not between 0 and 1.
    """
    if len(values) != len(reference):
        raise ValueError(f"{len(values)} values and {len(reference)} to pair them with")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    found = spread(np.subtract(values, reference))
    if found is None or found.deviation is None:
        return found and PairedDifference(found.mean, None, found.count, None, None)
    quantile = float(stdtrit(found.count - 1, (1 + confidence) / 2))
    half = quantile * found.deviation / found.count**0.5
    return PairedDifference(found.mean, found.deviation, found.count, found.mean - half, found.mean + half)
