"""The precision-recall curve of all decisions of a multi-label classifier together."""

from __future__ import annotations

import numpy as np

from .metrics import threshold_counts

__all__ = ["micro_precision_recall"]


def micro_precision_recall(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall at each distinct score, over all images and classes (micro average).

    Decisions of equal score enter together, so that nothing hangs on the order of the data.

    Args:
        scores: (N, C) finite scores.
        targets: (N, C) 1 positive, 0 negative, -1 ignore.

    Returns:
        (T,) precision and (T,) recall in 0..1 at or above each of the T distinct scores, highest score first.

    Raises:
        ValueError: shapes that differ, a score that is not finite, or no positive.
    """
    scores, targets = np.asarray(scores), np.asarray(targets)
    if scores.shape != targets.shape:
        raise ValueError(f"scores {scores.shape} and targets {targets.shape} must have one shape")
    known = targets != -1
    scores, positive = scores[known], targets[known] == 1
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    if not positive.any():
        raise ValueError("there is no positive to find")
    order = np.argsort(-scores, kind="stable")
    found, predicted = threshold_counts(scores[order], positive[order])
    return found / predicted, found / found[-1]
