"""Multi-label metrics of parts of a dataset: by the size of objects, the number of labels, the frequency of classes.

Pure functions on arrays. AP depends on how many positives there are, and class means on which classes have one: compare
two models in one group, not two groups.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlickd.errors import InputError

from .metrics import average_precision, multilabel_metrics

__all__ = ["FREQUENCIES", "LABEL_COUNTS", "OBJECT_SIZES", "by_class_frequency", "by_label_count", "by_object_size"]
__all__ += ["class_frequencies", "frequency_groups", "largest_objects", "size_targets"]

# From which to below which part of the image's area. COCO's sizes are 0.3 and 3 percent of a usual image of its own, of
# outlines; an image label asks for the largest object, and has a box around it, which is larger than the outline.
OBJECT_SIZES = {
    "small (below 1 %)": (0.0, 0.01),
    "medium (1 to 10 %)": (0.01, 0.1),
    "large (from 10 %)": (0.1, float("inf")),
}
LABEL_COUNTS = {"1 label": (1, 1), "2 labels": (2, 2), "3 labels and more": (3, float("inf"))}
FREQUENCIES = ("rare", "medium", "frequent")


def largest_objects(records: Sequence[dict], num_classes: int) -> np.ndarray:
    """How large the largest object of each class is in each image.

    Boxes marked as crowd or difficult are left out: the first are of no single object, the second count for no label.

    Args:
        records: Detectron2 dataset dicts with ``height``, ``width`` and ``annotations`` (corner boxes), or without the
            last where nobody has drawn any.
        num_classes: C.

    Returns:
        (N, C) float64, part of the image's area; NaN where there is no box.

    Raises:
        InputError: an image with boxes has no size.
    """
    sizes = np.full((len(records), num_classes), np.nan)
    for row, record in zip(sizes, records, strict=True):
        boxes = [b for b in record.get("annotations", ()) if not b.get("iscrowd") and not b.get("difficult")]
        if boxes and not ("height" in record and "width" in record):
            raise InputError(
                f"image {record['image_id']}: has boxes but no height and width, so objects have no relative size; "
                "set both where the dataset is registered"
            )
        for box in boxes:
            x0, y0, x1, y1 = box["bbox"]
            part = (x1 - x0) * (y1 - y0) / (record["height"] * record["width"])
            row[box["category_id"]] = np.fmax(row[box["category_id"]], part)
    return sizes


def size_targets(targets: np.ndarray, largest: np.ndarray, low: float, high: float) -> np.ndarray:
    """Targets that ask for objects of one size alone.

    Args:
        targets: (N, C) 1 positive, 0 negative, -1 ignore.
        largest: (N, C) of :func:`largest_objects`.
        low, high: from which to below which part of the image.

    Returns:
        (N, C): positives whose largest object has another size, or no box, are ignored. Negatives stay: they are all
        images without the class.
    """
    with np.errstate(invalid="ignore"):
        fits = (largest >= low) & (largest < high)
    return np.where((targets == 1) & ~fits, -1, targets)


def by_object_size(
    scores: np.ndarray, targets: np.ndarray, largest: np.ndarray, *, ap: str = "ranking"
) -> dict[str, dict[str, float]]:
    """mAP of each of OBJECT_SIZES.

    Args:
        scores, targets: (N, C).
        largest: of :func:`largest_objects`.
        ap: see :func:`mlickd.evaluation.metrics.average_precision`.

    Returns:
        By group: ``mAP`` (a fraction), and the numbers of ``positives`` and of ``classes`` that have one and enter the
        mean.
    """
    groups = {}
    for name, (low, high) in OBJECT_SIZES.items():
        of_size = size_targets(targets, largest, low, high)
        groups[name] = _mean_over_classes(scores, of_size, range(scores.shape[1]), ap)
    return groups


def by_label_count(
    scores: np.ndarray,
    targets: np.ndarray,
    *,
    threshold: float = 0.5,
    topk: int = 3,
    ap: str = "ranking",
) -> dict[str, dict[str, float]]:
    """Metrics of the images that have as many positives as each of LABEL_COUNTS says.

    Images without a positive are in no group.

    Args:
        scores, targets: (N, C).
        threshold, topk, ap: see :func:`mlickd.evaluation.metrics.multilabel_metrics`.

    Returns:
        By group: ``mAP``, ``OR`` and ``OF1`` (fractions, of these images alone), and the numbers of ``images``, of
        ``positives``, and of ``classes`` that have one and enter the mean.
    """
    counts = (targets == 1).sum(axis=1)
    groups = {}
    for name, (fewest, most) in LABEL_COUNTS.items():
        rows = (counts >= fewest) & (counts <= most)
        group = {"mAP": float("nan"), "OR": float("nan"), "OF1": float("nan")}
        classes = 0
        if rows.any():
            metrics = multilabel_metrics(scores[rows], targets[rows], threshold=threshold, topk=topk, ap=ap)
            group, classes = {key: metrics[key] for key in group}, metrics["classes"]
        groups[name] = group | {
            "images": int(rows.sum()),
            "positives": int((targets[rows] == 1).sum()),
            "classes": classes,
        }
    return groups


def class_frequencies(records: Sequence[dict], num_classes: int) -> np.ndarray:
    """(C,) number of images of each class among records with ``labels``."""
    labels = [label for record in records for label in set(record["labels"])]
    return np.bincount(np.array(labels, dtype=np.int64), minlength=num_classes)


def frequency_groups(frequencies: np.ndarray) -> dict[str, list[int]]:
    """The classes of each of FREQUENCIES: thirds, as equal as can be, of the classes in order of frequency.

    Args:
        frequencies: (C,) images of each class in training. Classes of equal frequency are in order of their index.
    """
    thirds = np.array_split(np.argsort(frequencies, kind="stable"), len(FREQUENCIES))
    return {name: sorted(third.tolist()) for name, third in zip(FREQUENCIES, thirds, strict=True)}


def by_class_frequency(
    scores: np.ndarray, targets: np.ndarray, frequencies: np.ndarray, *, ap: str = "ranking"
) -> dict[str, dict[str, float]]:
    """mAP of the classes in each of :func:`frequency_groups`.

    Args:
        scores, targets: (N, C) of the test set.
        frequencies: (C,) images of each class in training.
        ap: see :func:`mlickd.evaluation.metrics.average_precision`.

    Returns:
        As :func:`by_object_size`.
    """
    return {
        name: _mean_over_classes(scores, targets, classes, ap)
        for name, classes in frequency_groups(frequencies).items()
    }


def _mean_over_classes(scores: np.ndarray, targets: np.ndarray, classes: Sequence[int], ap: str) -> dict[str, float]:
    positives = (targets == 1).sum(axis=0)
    counted = [index for index in classes if positives[index]]
    values = [average_precision(scores[:, index], targets[:, index], ap=ap) for index in counted]
    return {
        "mAP": float(np.mean(values)) if values else float("nan"),
        "positives": int(positives[counted].sum()),
        "classes": len(counted),
    }
