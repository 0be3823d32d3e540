"""Thresholds of the classes, chosen on held-out scores and stored next to the checkpoint that they belong to."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mlickd.errors import InputError
from mlickd.files import file_digest, write_json

THRESHOLDS_FILE = "thresholds.json"

_RULE = (
    "each class has the threshold with the best F1 on the held-out images, midway between two scores; among thresholds "
    "with the same F1, the nearest to default_threshold; a class without a positive has default_threshold"
)


@dataclass(frozen=True)
class ClassThresholds:
    """The content of ``thresholds.json``.

    Attributes:
        class_names: C names.
        thresholds: C thresholds in 0..1; a class is predicted if ``score >= threshold``.
        f1: F1 of each class on the held-out images, a fraction; None for a class without a positive.
        positives: number of held-out images with each class.
        default_threshold: threshold of a class without a positive.
        dataset: name of the held-out dataset.
        images: number of held-out images.
        data_sha256: SHA-256 of the dataset, see :func:`mlickd.data.records.labels_digest`.
        checkpoint: file name of the checkpoint, next to ``thresholds.json``.
        checkpoint_sha256: digest of the checkpoint.
    """

    class_names: list[str]
    thresholds: list[float]
    f1: list[float | None]
    positives: list[int]
    default_threshold: float
    dataset: str
    images: int
    data_sha256: str
    checkpoint: str
    checkpoint_sha256: str

    def tuned_on(self) -> dict:
        """Return name, number of images and digest of the held-out dataset."""
        return {"name": self.dataset, "images": self.images, "sha256": self.data_sha256}

    def check(self, path: str, class_names: Sequence[str], checkpoint: str | None = None) -> None:
        """Check that the thresholds belong to a model.

        Args:
            path: path of the thresholds, for the error message.
            class_names: classes of the model or the dataset.
            checkpoint: path of the model's checkpoint; if it exists, it must have the stored digest.

        Raises:
            InputError: the thresholds belong to other classes or to another checkpoint.
        """
        problem = ""
        if self.class_names != list(class_names):
            problem = f"its {len(self.class_names)} classes are not the {len(class_names)} classes of the model"
        elif checkpoint and os.path.isfile(checkpoint) and file_digest(checkpoint) != self.checkpoint_sha256:
            problem = f"was not tuned for the checkpoint {checkpoint}"
        if problem:
            raise InputError(f"{path}: {problem}; tune again with `mlickd tune-thresholds`")


def best_f1_thresholds(scores: np.ndarray, targets: np.ndarray, default: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Return the threshold of each class with the best F1, ``2 TP / (predicted + positives)``.

    The threshold lies midway between two neighboring distinct scores, because all thresholds between them give the same
    predictions. Below the lowest score, it is half of that score. If the midpoint rounds to the lower score, the higher
    score is used. Among thresholds with the best F1, the nearest to ``default`` is returned, and the higher of two
    equally near ones. A class without a positive keeps ``default``.

    Args:
        scores: (N, C) probabilities.
        targets: (N, C) 1 positive, 0 negative, -1 ignore.
        default: threshold in 0..1.

    Returns:
        (C,) float64 thresholds, and (C,) their F1 in 0..1, NaN for a class without a positive.
    """
    thresholds, f1 = np.full(scores.shape[1], float(default)), np.full(scores.shape[1], np.nan)
    for label, (column, target) in enumerate(zip(scores.T, targets.T, strict=True)):
        if (target == 1).any():
            known = target != -1
            thresholds[label], f1[label] = _best_of_class(column[known], target[known] == 1, default)
    return thresholds, f1


def _best_of_class(scores: np.ndarray, positive: np.ndarray, default: float) -> tuple[float, float]:
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    predicted = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) + 1  # at or above each distinct score
    true_positives = np.cumsum(positive[order])[predicted - 1]
    f1 = 2.0 * true_positives / (predicted + positive.sum())
    lowest = ranked[predicted - 1]
    next_lower = np.append(ranked[predicted[:-1]], np.zeros_like(lowest[:1]))
    midway = (lowest / 2 + next_lower / 2).astype(scores.dtype)
    candidates = np.where(midway > next_lower, midway, lowest).astype(np.float64)
    best = np.flatnonzero(f1 == f1.max())  # equal fractions are also equal in floating point
    nearest = best[np.argmin(np.abs(candidates[best] - default))]  # the first minimum is the highest threshold
    return float(candidates[nearest]), float(f1[nearest])


def write_thresholds(thresholds: ClassThresholds, path: str) -> None:
    """Write ``thresholds.json``, or raise InputError."""
    write_json(path, {"rule": _RULE, **asdict(thresholds)})


def read_thresholds(path: str) -> ClassThresholds:
    """Read ``thresholds.json``.

    Raises:
        InputError: the file is missing, or ``mlickd tune-thresholds`` did not write it.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        thresholds = ClassThresholds(**{name: content[name] for name in ClassThresholds.__dataclass_fields__})
        values = np.array(thresholds.thresholds, dtype=np.float64)
        if values.shape == (len(thresholds.class_names),) and ((values >= 0) & (values <= 1)).all():
            return thresholds
        reason = "needs a threshold in 0..1 for each class"
    except Exception as error:  # a damaged file can raise any error
        reason = error.strerror if isinstance(error, OSError) else repr(error)
    raise InputError(f"{path}: is not a readable {THRESHOLDS_FILE} ({reason}); make it with `mlickd tune-thresholds`")
