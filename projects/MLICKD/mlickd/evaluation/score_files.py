"""The file ``image_scores.npz`` of an evaluation, from which all metrics can be computed again."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mlickd.data.records import label_lists, labels_digest
from mlickd.errors import InputError
from mlickd.files import file_digest, write_atomic

from .metrics import checked_scores

SCORES_FILE, REPORT_FILE = "image_scores.npz", "multilabel_results.json"


@dataclass(frozen=True)
class ImageScores:
    """The content of ``image_scores.npz``.

    Attributes:
        path: path of the file.
        image_ids: N unique ids.
        scores: (N, C) float32 probabilities.
        targets: (N, C) int8: 1 positive, 0 negative, -1 ignore.
        class_names: C names; ``class 0`` and so on if a file from another program lacks them.
    """

    path: str
    image_ids: list[str]
    scores: np.ndarray
    targets: np.ndarray
    class_names: list[str]

    def data_digest(self) -> str:
        """Return the SHA-256 of image ids, labels and class names; see :func:`labels_digest`."""
        rows = zip(self.image_ids, label_lists(self.targets == 1), label_lists(self.targets == -1), strict=True)
        records = [{"image_id": i, "labels": labels, "ignored_labels": ignored} for i, labels, ignored in rows]
        return labels_digest(records, self.class_names)

    def align_with(self, other: ImageScores) -> ImageScores | None:
        """Return these scores in the image order of ``other``, or None if images, labels or classes differ."""
        places = {image_id: place for place, image_id in enumerate(self.image_ids)}
        if places.keys() != set(other.image_ids) or self.class_names != other.class_names:
            return None
        order = [places[image_id] for image_id in other.image_ids]
        if not np.array_equal(self.targets[order], other.targets):
            return None
        return replace(self, image_ids=other.image_ids, scores=self.scores[order], targets=other.targets)


def write_scores(
    path: str, image_ids: Sequence[str], scores: np.ndarray, targets: np.ndarray, class_names: Sequence[str]
) -> None:
    """Write ``image_scores.npz`` with the arrays of :class:`ImageScores`, or raise InputError."""
    texts = {"image_ids": np.array(image_ids, dtype=np.str_), "class_names": np.array(class_names, dtype=np.str_)}
    archive = io.BytesIO()
    np.savez_compressed(archive, scores=scores, targets=targets, **texts)
    write_atomic(path, archive.getvalue(), "free disk space, then evaluate again")


def read_scores(path: str) -> ImageScores:
    """Read ``image_scores.npz``.

    Raises:
        InputError: the file is missing or corrupt, or its arrays do not fit each other.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as saved:
            image_ids = saved["image_ids"].astype(np.str_).tolist()
            scores, targets = checked_scores(saved["scores"], saved["targets"])
            named = "class_names" in saved
            names = saved["class_names"].tolist() if named else [f"class {index}" for index in range(scores.shape[1])]
        if scores.shape != (len(set(image_ids)), len(names)) or len(image_ids) != len(scores):
            raise ValueError(f"scores of shape (N, C) = {scores.shape} need N different image ids and C class names")
    except Exception as error:  # a damaged file can raise any error
        raise InputError(f"{path}: is not a readable {SCORES_FILE} ({error}); evaluate the run again") from error
    return ImageScores(path, image_ids, scores, targets, names)


def scores_path(path: str, dataset: str | None = None) -> str:
    """Return the path of the scores of a run.

    Args:
        path: score file, or folder of a run (its ``OUTPUT_DIR``). The folder, or ``evaluation`` in it, has a score file
            for each dataset in ``DATASETS.TEST``.
        dataset: name of the dataset; required if the folder has scores of several datasets.

    Raises:
        InputError: the folder has no scores of the dataset, or scores of several datasets and ``dataset`` is None.
    """
    if os.path.isfile(path):
        return path
    trained, later = (
        sorted(file.parent.name for file in Path(path, part).glob(f"inference/*/{SCORES_FILE}"))
        for part in ("", "evaluation")
    )
    # Other datasets, such as those of `mlickd tune-thresholds`, count only if they are named or the only ones.
    names = trained if trained and dataset is None else dict.fromkeys(later + trained)
    found = {name: file for name in names if (file := results_folder(path, name) / SCORES_FILE).is_file()}
    if not found:
        raise InputError(
            f"{path}: is neither a score file nor a folder with inference/*/{SCORES_FILE} of the final checkpoint; "
            "evaluate the run first with `mlickd train --eval-only`"
        )
    name = dataset or next(iter(found))
    if name not in found or (dataset is None and len(found) > 1):
        raise InputError(f"{path}: has scores of {', '.join(found)}; choose one of them with --dataset")
    return str(found[name])


def results_folder(folder: str | os.PathLike[str], dataset: str) -> Path:
    """Return the folder with the results of a run on a dataset.

    A later evaluation (``--eval-only``), for example after a correction of labels, replaces the results of the training
    if it has evaluated the final checkpoint at the same image size and with the same protocol.
    """
    trained, later = (Path(folder, part, "inference", dataset) for part in ("", "evaluation"))
    report, first = _read_report(later), _read_report(trained)
    final = [path for name in ("model_final.pth", "student.pth") if (path := Path(folder, name)).is_file()]
    checkpoint = report.get("checkpoint")
    is_final = checkpoint is not None and checkpoint in [{"sha256": file_digest(path)} for path in final]
    if not trained.exists():
        return trained if checkpoint and not is_final else later
    same = all(report.get(key) == first.get(key) for key in ("protocol", "image_size"))
    return later if is_final and same and report.get("date", "") >= first.get("date", "") else trained


def _read_report(results: Path) -> dict:
    with suppress(OSError, ValueError, RecursionError):
        report = json.loads((results / REPORT_FILE).read_text())
        return report if isinstance(report, dict) else {}
    return {}
