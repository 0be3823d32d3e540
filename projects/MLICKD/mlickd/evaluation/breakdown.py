"""Metrics of parts of a dataset (by object size, number of labels, class frequency), and dependencies between labels.

AP depends on the number of positives, and class means on the classes with a positive. Therefore compare models within
a group, but not one group with another.
"""

from collections.abc import Sequence

import numpy as np

from mlickd.errors import InputError

from .metrics import average_precision, multilabel_metrics

__all__ = [
    "OBJECT_SIZES",
    "by_class_frequency",
    "by_label_count",
    "by_object_size",
    "conditional_frequencies",
    "dependency_error",
    "largest_objects",
]

# Intervals [low, high) of the area of the largest box of a class in an image, as a fraction of the image.
# COCO's limits apply to the area of segments. They are 0.3 and 3 % of a typical image.
OBJECT_SIZES = {
    "small (below 1 %)": (0.0, 0.01),
    "medium (1 to 10 %)": (0.01, 0.1),
    "large (from 10 %)": (0.1, float("inf")),
}
LABEL_COUNTS = {"1 label": (1, 1), "2 labels": (2, 2), "3 labels and more": (3, float("inf"))}


def largest_objects(records: Sequence[dict], num_classes: int) -> np.ndarray:
    """Return the size of the largest object of each class in each image, without crowds and difficult objects.

    Args:
        records: Detectron2 dataset dicts with ``height``, ``width`` and optionally ``annotations`` (XYXY boxes).
        num_classes: C.

    Returns:
        (N, C) float64 fractions of the image's area; NaN without a box.

    Raises:
        InputError: a record with boxes has no height and width.
    """
    sizes = np.full((len(records), num_classes), np.nan)
    for row, record in zip(sizes, records, strict=True):
        boxes = [b for b in record.get("annotations", ()) if not b.get("iscrowd") and not b.get("difficult")]
        if boxes and not ("height" in record and "width" in record):
            raise InputError(f"image {record['image_id']}: has boxes but no height and width; set both in its record")
        for box in boxes:
            x0, y0, x1, y1 = box["bbox"]
            fraction = (x1 - x0) * (y1 - y0) / (record["height"] * record["width"])
            row[box["category_id"]] = np.fmax(row[box["category_id"]], fraction)
    return sizes


def by_object_size(
    scores: np.ndarray, targets: np.ndarray, largest: np.ndarray, *, ap: str = "ranking"
) -> dict[str, dict[str, float]]:
    """Compute the mAP for objects of each of OBJECT_SIZES.

    Positives whose largest object has another size, or no box, are ignored. Negatives are all images without the class.

    Args:
        scores, targets: (N, C).
        largest: (N, C) from :func:`largest_objects`.
        ap: see :func:`mlickd.evaluation.metrics.average_precision`.

    Returns:
        By group: ``mAP`` (a fraction), number of ``positives``, and number of ``classes`` with a positive, which enter
        the mean.
    """
    groups = {}
    for name, (low, high) in OBJECT_SIZES.items():
        other_size = (targets == 1) & ~((largest >= low) & (largest < high))  # includes NaN, an object without a box
        groups[name] = _mean_average_precision(scores, np.where(other_size, -1, targets), ap)
    return groups


def by_label_count(
    scores: np.ndarray, targets: np.ndarray, *, threshold: float = 0.5, topk: int = 3, ap: str = "ranking"
) -> dict[str, dict[str, float]]:
    """Compute metrics of the images with one, two, and more positives. Images without a positive are left out.

    Args:
        scores, targets: (N, C).
        threshold, topk, ap: see :func:`mlickd.evaluation.metrics.multilabel_metrics`.

    Returns:
        By group: ``mAP``, ``OR`` and ``OF1`` (fractions), and the numbers of ``images``, ``positives`` and ``classes``
        as in :func:`by_object_size`.
    """
    counts = (targets == 1).sum(axis=1)
    groups = {}
    for name, (fewest, most) in LABEL_COUNTS.items():
        rows = (counts >= fewest) & (counts <= most)
        metrics = {"mAP": float("nan"), "OR": float("nan"), "OF1": float("nan"), "classes": 0}
        if rows.any():
            metrics = multilabel_metrics(scores[rows], targets[rows], threshold=threshold, topk=topk, ap=ap)
        sizes = {"images": int(rows.sum()), "positives": int(counts[rows].sum())}
        groups[name] = {key: metrics[key] for key in ("mAP", "OR", "OF1", "classes")} | sizes
    return groups


def by_class_frequency(
    scores: np.ndarray, targets: np.ndarray, frequencies: np.ndarray, *, ap: str = "ranking"
) -> dict[str, dict[str, float]]:
    """Compute the values of :func:`by_object_size` for the rare, medium and frequent thirds of the classes.

    Args:
        scores, targets: (N, C) of the test set.
        frequencies: (C,) numbers of training images; classes with equal numbers are in the order of their index.
        ap: see :func:`mlickd.evaluation.metrics.average_precision`.
    """
    thirds = np.array_split(np.argsort(frequencies, kind="stable"), 3)
    names = ("rare", "medium", "frequent")
    groups = zip(names, thirds, strict=True)
    return {name: _mean_average_precision(scores[:, third], targets[:, third], ap) for name, third in groups}


def _mean_average_precision(scores: np.ndarray, targets: np.ndarray, ap: str) -> dict[str, float]:
    positives = (targets == 1).sum(axis=0)
    values = [average_precision(scores[:, i], targets[:, i], ap=ap) for i in np.flatnonzero(positives)]
    mean = float(np.mean(values)) if values else float("nan")
    return {"mAP": mean, "positives": int(positives.sum()), "classes": len(values)}


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
