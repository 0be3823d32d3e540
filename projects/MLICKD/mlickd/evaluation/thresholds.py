"""A threshold for each class, chosen on held-out scores and kept beside the checkpoint that gave them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from detectron2.utils.file_io import PathManager

from mlickd.errors import InputError
from mlickd.files import file_digest, write_json

from .ranking import threshold_counts

__all__ = [
    "THRESHOLDS_FILE",
    "ClassThresholds",
    "best_f1_thresholds",
    "load_thresholds",
    "read_thresholds",
    "write_thresholds",
]

THRESHOLDS_FILE = "thresholds.json"

_RULE = (
    "of each class the threshold with the best F1 on the held-out images: of equally good ones that nearest to "
    "default_threshold, midway between two scores; a class without a positive has default_threshold"
)


@dataclass(frozen=True)
class ClassThresholds:
    """What ``thresholds.json`` holds.

    Attributes:
        class_names: C names.
        thresholds: C thresholds in 0..1; a class is predicted where ``score >= threshold``.
        f1: F1 of each class with it on the held-out images, a fraction; None for a class without a positive there.
        positives: of each class, among the held-out images.
        default_threshold: of a class without a positive.
        dataset: name of the held-out dataset.
        images: how many it has.
        data_sha256: digest of its images, labels and classes, see :mod:`mlickd.data.manifest`.
        checkpoint: name of the checkpoint's file, beside ``thresholds.json``.
        checkpoint_sha256: its digest.
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
        """The held-out dataset, for a protocol."""
        return {"name": self.dataset, "images": self.images, "sha256": self.data_sha256}

    def check(self, path: str, class_names: Sequence[str], checkpoint: str | None = None) -> None:
        """
        Args:
            path: of this record, for messages.
            class_names: of the model or the dataset.
            checkpoint: path of the model's; None, or a file that is not there, as behind an export: none to compare.

        Raises:
            InputError: the thresholds are of other classes, or were tuned for another checkpoint.
        """
        if self.class_names != list(class_names):
            raise InputError(
                f"{path}: has thresholds of {len(self.class_names)} classes that are not the {len(class_names)} "
                "classes here, or in another order; tune them for this model with tools/tune_thresholds.py"
            )
        if checkpoint is None or not PathManager.isfile(checkpoint):
            return
        if file_digest(PathManager.get_local_path(checkpoint)) != self.checkpoint_sha256:
            raise InputError(
                f"{path}: was tuned for another checkpoint than {checkpoint}; tune again with tools/tune_thresholds.py"
            )


def best_f1_thresholds(scores: np.ndarray, targets: np.ndarray, default: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """
    The threshold of each class that has the best F1, ``2 TP / (predicted + positives)``.

    Between two neighboring distinct scores every threshold predicts the same, and the one midway between them is
    taken; below the lowest score, half of it. Of thresholds with the same best F1 the one nearest to ``default`` is
    taken, and of two equally near the higher. So a class is only moved away from ``default`` as far as the scores ask
    for. Where midway cannot be told from the lower score in the precision of the scores, it is the higher score
    itself. A class without a positive keeps ``default``.

    Args:
        scores: (N, C) probabilities.
        targets: (N, C) 1 positive, 0 negative, -1 ignore, as if the entry were not there.
        default: the threshold of all classes.

    Returns:
        (C,) float64 thresholds, and (C,) their F1 in 0..1, NaN without a positive.
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
    hits, predicted = threshold_counts(ranked, positive[order])
    f1 = 2.0 * hits / (predicted + positive.sum())
    lowest = ranked[predicted - 1]
    next_lower = np.append(ranked[predicted[:-1]], np.zeros_like(lowest[:1]))
    midway = (lowest / 2 + next_lower / 2).astype(scores.dtype)
    candidates = np.where(midway > next_lower, midway, lowest).astype(np.float64)
    best = np.flatnonzero(f1 == f1.max())  # equal fractions are equal in floating point, too
    nearest = best[np.argmin(np.abs(candidates[best] - default))]  # the first is the highest
    return float(candidates[nearest]), float(f1[nearest])


def write_thresholds(thresholds: ClassThresholds, path: str) -> None:
    """Write ``thresholds.json``.

    Raises:
        InputError: it cannot be written.
    """
    write_json(path, {"rule": _RULE, **asdict(thresholds)})


def read_thresholds(path: str) -> ClassThresholds:
    """
    Raises:
        InputError: the file is missing, or is not what ``tools/tune_thresholds.py`` writes.
    """
    if not PathManager.isfile(path):
        raise InputError(f"{path}: no such file; make it with tools/tune_thresholds.py")
    try:
        with PathManager.open(path, "r") as file:
            content = json.load(file)
        thresholds = ClassThresholds(**{name: content[name] for name in ClassThresholds.__dataclass_fields__})
        values = np.array(thresholds.thresholds, dtype=np.float64)
        if values.shape == (len(thresholds.class_names),) and ((values >= 0) & (values <= 1)).all():
            return thresholds
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise InputError(f"{path}: not what tools/tune_thresholds.py writes; make it again")


def load_thresholds(run_dir: str, class_names: Sequence[str]) -> np.ndarray:
    """The thresholds that ``tools/tune_thresholds.py`` has left for the checkpoint of a run, for prediction.

    Args:
        run_dir: folder of the run, its ``OUTPUT_DIR``.
        class_names: of the model, in the order of its scores.

    Returns:
        (C,) float64; a class is predicted where ``score >= threshold``.

    Raises:
        InputError: there are none, or they are of other classes or of another checkpoint than the run's.
    """
    path = os.path.join(run_dir, THRESHOLDS_FILE)
    thresholds = read_thresholds(path)
    thresholds.check(path, class_names, os.path.join(run_dir, thresholds.checkpoint))
    return np.array(thresholds.thresholds)
