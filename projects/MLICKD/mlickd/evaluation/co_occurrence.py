"""Which labels occur together: in the truth, and in what a model predicts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["DependencyError", "conditional_frequencies", "dependency_error"]


@dataclass(frozen=True)
class DependencyError:
    """How far the conditional frequencies of predictions are from those of the truth.

    Attributes:
        mean_difference: mean absolute difference, a fraction.
        correlation: Pearson's; NaN where one of them does not vary.
        pairs: ordered pairs of classes that both are over.
    """

    mean_difference: float
    correlation: float
    pairs: int


def conditional_frequencies(positive: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """Of the images that have one class, the share that has another, too.

    Args:
        positive: (N, C) bool, labels or predictions.
        known: (N, C) bool, where a label counts; an image counts for a pair where both do. None: everywhere.

    Returns:
        (C, C) P(column's class | row's class); NaN on the diagonal, and in the row of a class that no image has.
    """
    known = np.ones_like(positive) if known is None else known
    has = (positive & known).astype(np.float64)
    together, with_row = has.T @ has, has.T @ known.astype(np.float64)
    shares = np.full(together.shape, np.nan)
    np.divide(together, with_row, out=shares, where=with_row > 0)
    np.fill_diagonal(shares, np.nan)
    return shares


def dependency_error(truth: np.ndarray, *predicted: np.ndarray) -> list[DependencyError]:
    """Compare the conditional frequencies of one or more models with those of the truth.

    All are compared over the same pairs: those that are defined for the truth and every model, for a class that a model
    never predicts has none.

    Args:
        truth: (C, C), see :func:`conditional_frequencies`.
        predicted: (C, C) of each model, on the same images.
    """
    defined = np.isfinite(np.stack([truth, *predicted])).all(axis=0)
    errors = []
    for frequencies in predicted:
        if not defined.any():
            errors.append(DependencyError(float("nan"), float("nan"), 0))
            continue
        expected, found = truth[defined], frequencies[defined]
        varies = expected.std() > 0 and found.std() > 0
        correlation = float(np.corrcoef(expected, found)[0, 1]) if varies else float("nan")
        errors.append(DependencyError(float(np.abs(found - expected).mean()), correlation, int(defined.sum())))
    return errors
