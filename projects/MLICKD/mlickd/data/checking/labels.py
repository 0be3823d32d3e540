"""How often the classes occur, alone and together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..records import label_targets
from .findings import Finding, counted

__all__ = ["LabelStatistics", "class_findings", "label_statistics"]


@dataclass(frozen=True)
class LabelStatistics:
    """Of the labels of one dataset of N images and C classes.

    Attributes:
        class_names: of the C classes.
        positives: (C,) images that have the class.
        ignored: (C,) images for which the class does not count.
        per_image: number of labels to number of images, ascending.
        together: (C, C) images that have both classes; the diagonal is `positives`.
    """

    class_names: Sequence[str]
    positives: np.ndarray
    ignored: np.ndarray
    per_image: dict[int, int]
    together: np.ndarray


def label_statistics(records: Sequence[dict], class_names: Sequence[str]) -> LabelStatistics:
    """Count the labels of records, as they count in training."""
    targets = label_targets(records, len(class_names))
    positive = (targets == 1).astype(np.float32)  # products of floats are quick, and exact below 2**24
    together = (positive.T @ positive).astype(np.int64)
    per_image = Counter(positive.sum(axis=1).astype(int).tolist())
    return LabelStatistics(
        list(class_names),
        together.diagonal().copy(),
        (targets == -1).sum(axis=0),
        dict(sorted(per_image.items())),
        together,
    )


def class_findings(statistics: dict[str, LabelStatistics]) -> list[Finding]:
    """Classes that cannot be learned or measured, and class lists that differ.

    Args:
        statistics: of each split by its name.
    """
    findings = []
    reference, *others = statistics
    for name in others:
        findings += _compare_lists(reference, statistics[reference].class_names, name, statistics[name].class_names)
    for name, labels in statistics.items():
        num_images = sum(labels.per_image.values())
        names = np.array(labels.class_names, dtype=object)
        empty = names[labels.positives == 0].tolist()
        if empty:
            message = counted(
                len(empty),
                "class has no image here, so it cannot be learned or measured",
                "classes have no image here, so they cannot be learned or measured",
            )
            elsewhere = [
                f"{len(there)} of them have some in {other}"
                for other in statistics
                if (there := _occurring(statistics[other]) & set(empty))
            ]
            message = "; ".join([message, *elsewhere])
            findings.append(Finding("warning", name, message, empty))
        full = names[(labels.positives == num_images) & (num_images > 1)].tolist()
        if full:
            message = counted(
                len(full),
                "class is in every image, so it tells nothing",
                "classes are in every image, so they tell nothing",
            )
            findings.append(Finding("warning", name, message, full))
        if labels.per_image.get(0):
            message = counted(
                labels.per_image[0],
                "image has no label; it is a negative of every class",
                "images have no label; they are negatives of every class",
            )
            findings.append(Finding("note", name, message))
    return findings


def _occurring(labels: LabelStatistics) -> set[str]:
    return {name for name, count in zip(labels.class_names, labels.positives, strict=True) if count}


def _compare_lists(name: str, classes: Sequence[str], other: str, others: Sequence[str]) -> list[Finding]:
    if list(classes) == list(others):
        return []
    differing = sorted(set(classes) ^ set(others))
    if differing:
        message = f"its classes are not those of {name}; splits of a dataset need one list"
        return [Finding("error", other, message, differing)]
    first = next(mine for mine, theirs in zip(classes, others, strict=True) if mine != theirs)
    message = f"its classes are in another order than those of {name}, from {first!r} on; use one list for both"
    return [Finding("error", other, message)]
