"""Dependencies between labels: how often an image with one class also has another class."""

import numpy as np


def conditional_frequencies(positive: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the fraction of the images with one class that also have another class.

    Args:
        positive: (N, C) booleans, labels or predictions.
        known: (N, C) booleans, False for ignored labels; an image counts for a pair of classes if both are known.

    Returns:
        (C, C) P(column's class | row's class); NaN on the diagonal, and in the row of a class without images.
    """
    has = (positive & known).astype(np.float64)
    together, with_row = has.T @ has, has.T @ known.astype(np.float64)
    fractions = np.full(together.shape, np.nan)
    np.divide(together, with_row, out=fractions, where=with_row > 0)
    np.fill_diagonal(fractions, np.nan)
    return fractions


def dependency_error(truth: np.ndarray, *predicted: np.ndarray) -> list[tuple[float, float, int]]:
    """Compare the conditional frequencies of the predictions of one or more models with the labels.

    All models are compared on the same pairs of classes: the pairs without a NaN in any matrix.

    Args:
        truth: (C, C) of the labels, see :func:`conditional_frequencies`.
        predicted: (C, C) of the predictions of each model, on the same images.

    Returns:
        For each model the mean absolute difference (a fraction), Pearson's correlation (NaN if the frequencies of
        predictions or labels are constant), and the number of ordered pairs of classes.
    """
    defined = np.isfinite(np.stack([truth, *predicted])).all(axis=0)
    if not defined.any():
        return [(float("nan"), float("nan"), 0)] * len(predicted)
    errors = []
    expected = truth[defined]
    for found in (frequencies[defined] for frequencies in predicted):
        varies = expected.std() > 0 and found.std() > 0
        correlation = float(np.corrcoef(expected, found)[0, 1]) if varies else float("nan")
        errors.append((float(np.abs(found - expected).mean()), correlation, int(defined.sum())))
    return errors
