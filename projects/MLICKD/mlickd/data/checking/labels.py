"""How often the classes of a dataset occur, separately and together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..records import label_targets

__all__ = ["LabelStatistics", "label_statistics"]


@dataclass(frozen=True)
class LabelStatistics:
    """The labels of one dataset of N images and C classes.

    Attributes:
        class_names: names of the C classes.
        positives: (C,) number of images that have the class.
        ignored: (C,) number of images for which the class does not count.
        per_image: {number of labels: number of images}, ascending.
        together: (C, C) number of images that have both classes; the diagonal is `positives`.
    """

    class_names: Sequence[str]
    positives: np.ndarray
    ignored: np.ndarray
    per_image: dict[int, int]
    together: np.ndarray


def label_statistics(records: Sequence[dict], class_names: Sequence[str]) -> LabelStatistics:
    """Count the labels of records, as they count in training."""
    targets = label_targets(records, len(class_names))
    positive = (targets == 1).astype(np.float32)  # products of floats are fast, and exact below 2**24
    together = (positive.T @ positive).astype(np.int64)
    per_image = Counter(positive.sum(axis=1).astype(int).tolist())
    return LabelStatistics(
        list(class_names),
        together.diagonal().copy(),
        (targets == -1).sum(axis=0),
        dict(sorted(per_image.items())),
        together,
    )
