"""Values of several runs: mean, standard deviation, and the confidence interval of the mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from .bootstrap import CONFIDENCE

__all__ = ["Spread", "spread"]


@dataclass(frozen=True)
class Spread:
    """Summary of the values of several runs.

    Attributes:
        mean: arithmetic mean.
        count: number of values, n.
        deviation: standard deviation of the sample (divisor n - 1); None for a single value.
        low, high: ends of the confidence interval of the mean; None for a single value.
    """

    mean: float
    count: int
    deviation: float | None = None
    low: float | None = None
    high: float | None = None

    def text(self, sign: str = "") -> str:
        """Return ``mean ± deviation``; with sign ``+``, the mean has a sign."""
        return f"{self.mean:{sign}.1f}" if self.deviation is None else f"{self.mean:{sign}.1f} ± {self.deviation:.1f}"

    def interval_text(self) -> str:
        """Return ``mean [low, high]``, each with its sign."""
        return f"{self.mean:+.1f}" if self.low is None else f"{self.mean:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def spread(values: Sequence[float]) -> Spread | None:
    """Summarize values of several runs, or their paired differences.

    The confidence interval is ``mean ± t * s / sqrt(n)``, with the standard deviation s and the quantile t of Student's
    distribution with n - 1 degrees of freedom (Student 1908). It takes the values as normally distributed, and is not
    corrected for the number of comparisons.

    Returns:
        The summary, or None without a value.
    """
    if len(values) < 2:
        return Spread(float(values[0]), 1) if len(values) else None
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * deviation / len(values) ** 0.5
    return Spread(mean, len(values), deviation, mean - half, mean + half)
