"""Whether exported files give what PyTorch gives, on photos and through the whole path."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from tabulate import tabulate
from torch import nn
from tqdm import tqdm

from mlickd.data.build import build_inference_mapper
from mlickd.data.catalog import class_names, dataset_records
from mlickd.data.loose_images import photo_records
from mlickd.data.records import label_targets
from mlickd.errors import InputError
from mlickd.evaluation.metrics import multilabel_metrics
from mlickd.runs import run_class_names, run_config
from mlickd.visualization.runs import choose_records

from .loading import ExportedClassifier
from .optional import import_optional
from .photos import read_photo

__all__ = [
    "BATCH_SIZES",
    "DECISION_TOLERANCE",
    "METRIC_TOLERANCE",
    "OWN_TOLERANCE",
    "PILLOW_TOLERANCE",
    "Check",
    "check_exported",
    "check_records",
    "checks_table",
    "records_for_check",
]

# The batches that a file gets; the last ones are what is left.
BATCH_SIZES = (1, 2, 5, 16)

# The same pixels: the sums of a network in another order.
OWN_TOLERANCE = 1e-4
# Pixels that differ by rounding, through a network. It is the mean difference that has this bound: single photos with a
# score on the steepest part of the sigmoid go further.
PILLOW_TOLERANCE = 2e-3

# Of mAP, CF1 and OF1, in percentage points; of few photos what one of them weighs, 100 / N, where that is more.
METRIC_TOLERANCE = 0.5
# Where photos have no labels: the share of all decisions that may be others; one always may.
DECISION_TOLERANCE = 0.005

_METRICS = ("mAP", "CF1", "OF1")


@dataclass(frozen=True)
class Check:
    """The scores of one way from photos to scores, beside PyTorch's.

    Attributes:
        title: what it is.
        scores: (N, C).
        largest, mean: absolute difference from PyTorch's scores.
        decisions: how many of the N * C decisions by threshold are others.
        metrics: ``mAP``, ``CF1``, ``OF1`` in percent; empty without labels.
        complaint: why it fails, in one line; empty where it does not.
    """

    title: str
    scores: np.ndarray
    largest: float = 0.0
    mean: float = 0.0
    decisions: int = 0
    metrics: dict[str, float] | None = None
    complaint: str = ""


def check_exported(
    cfg: CfgNode,
    model: nn.Module,
    files: Sequence[ExportedClassifier],
    records: Sequence[dict],
    *,
    tolerance: float = OWN_TOLERANCE,
) -> list[Check]:
    """Compare exported files with the model that they are of.

    PyTorch's scores are those of an evaluation: photos through the project's mapper, in batches of 24. Each file sees
    them twice in batches of 1, 2, 5 and 16: the same pixels, which must give the same scores up to ``tolerance``, and
    the photos as Pillow alone reads them (:func:`read_photo`), whose scores may differ by `PILLOW_TOLERANCE` on
    average. Either way, metrics may differ by `METRIC_TOLERANCE`, and decisions without labels by `DECISION_TOLERANCE`.

    Args:
        cfg, model: of the run.
        files: at least one.
        records: of photos; where all have ``labels``, there are metrics.
        tolerance: of the largest difference on the same pixels.

    Returns:
        PyTorch's, then two of each file.

    Raises:
        InputError: a photo cannot be read.
    """
    ways = [(file, source) for file in files for source in ("the same pixels", "photos read by Pillow alone")]
    scores: list[list[np.ndarray]] = [[] for _ in range(1 + len(ways))]
    mapper = build_inference_mapper(cfg)
    model = model.eval()
    with tqdm(total=len(records), desc="check", unit="photo", disable=None, leave=False) as progress:
        for part in _parts(records, sum(BATCH_SIZES)):
            samples = [mapper(record) for record in part]
            with torch.inference_mode():
                scores[0] += [output["image_scores"].numpy() for output in model(samples)]
            own = np.stack([sample["image"].numpy().transpose(1, 2, 0) for sample in samples])
            views = {"the same pixels": own if cfg.INPUT.FORMAT == "RGB" else np.ascontiguousarray(own[..., ::-1])}
            pillow = [read_photo(record["file_name"], cfg.INPUT.SIZE_TEST) for record in part]
            views["photos read by Pillow alone"] = np.stack(pillow)
            for place, (file, source) in enumerate(ways, start=1):
                scores[place] += [row for batch in _batches(views[source]) for row in file.scores_of_views(batch)]
            progress.update(len(part))
    labeled = all("labels" in record for record in records)
    targets = label_targets(records, cfg.MODEL.NUM_CLASSES) if labeled else None
    thresholds = files[0].thresholds
    reference = np.stack(scores[0])
    checks = [Check("PyTorch, as in an evaluation", reference, metrics=_metrics(reference, targets, thresholds))]
    for (file, source), rows in zip(ways, scores[1:], strict=True):
        found = np.stack(rows)
        difference = np.abs(found.astype(np.float64) - reference)
        largest, mean = float(difference.max()), float(difference.mean())
        decisions = int(((found >= thresholds) != (reference >= thresholds)).sum())
        metrics = _metrics(found, targets, thresholds)
        if source == "the same pixels" and not largest <= tolerance:
            complaint = (
                f"its scores differ by up to {largest:.2g} from PyTorch's on the same pixels; the tolerance is "
                f"{tolerance:g}"
            )
        elif source != "the same pixels" and not mean <= PILLOW_TOLERANCE:
            complaint = (
                f"its scores of photos read by Pillow alone differ by {mean:.2g} from PyTorch's on average; the "
                f"tolerance is {PILLOW_TOLERANCE:g}"
            )
        elif complaint := _other_metrics(metrics, checks[0].metrics, len(records)):
            complaint = f"{complaint}, on {source}"
        elif metrics is None and decisions > max(1.0, DECISION_TOLERANCE * found.size):
            complaint = (
                f"{decisions} of {found.size} decisions are others than PyTorch's, on {source}; the tolerance is "
                f"{DECISION_TOLERANCE:.1%}"
            )
        complaint = f"{file.path}: {complaint}" if complaint else ""
        checks.append(Check(f"{file.path}, {source}", found, largest, mean, decisions, metrics, complaint))
    return checks


def records_for_check(
    run: str,
    outputs: Sequence[str | os.PathLike[str]],
    dataset: str | None = None,
    photos: Sequence[str] = (),
    num_images: int | None = None,
    seed: int = 0,
) -> list[dict]:
    """The photos to check the files of a run on, found before the files are written.

    Args:
        run: folder of the run.
        outputs: files that it will be exported to.
        dataset: name of a dataset; None for the first of the run's ``DATASETS.TEST``.
        photos, num_images, seed: as of :func:`check_records`.

    Raises:
        InputError: as :func:`check_records`; or what runs one of the files is not installed.
    """
    if any(Path(output).suffix.lower() == ".onnx" for output in outputs):
        import_optional("onnxruntime", "--check of an .onnx file")
    cfg = run_config(run)
    return check_records(run_class_names(cfg, run), dataset or cfg.DATASETS.TEST[0], photos, num_images, seed)


def check_records(
    names: Sequence[str], dataset: str, photos: Sequence[str] = (), num_images: int | None = None, seed: int = 0
) -> list[dict]:
    """The photos to check a run's files on.

    Args:
        names: of the run's classes.
        dataset: name of a dataset.
        photos: images, folders, patterns or lists of images; where there are any, in place of a dataset.
        num_images: of the dataset, drawn at random by ``seed``; None for all.

    Raises:
        InputError: there is no such dataset or photo, or its classes are not those of the run.
    """
    if photos:
        return photo_records(photos)
    if class_names(dataset) != list(names):
        raise InputError(f"--dataset {dataset}: has other classes than the run; name one of its own, or give --photos")
    return dataset_records(dataset, boxes=False) if num_images is None else choose_records(dataset, num_images, seed)


def checks_table(checks: Sequence[Check]) -> str:
    """For a terminal; decisions and metrics are by the thresholds in the files."""
    headers = ["scores of", "largest difference", "mean difference", "other decisions"]
    rows = []
    for place, check in enumerate(checks):
        differences = [f"{check.largest:.1e}", f"{check.mean:.1e}", f"{check.decisions} of {check.scores.size}"]
        metrics = [f"{check.metrics[name]:.2f}" for name in _METRICS] if check.metrics else []
        rows.append([check.title, *(differences if place else ["", "", ""]), *metrics])
    if checks[0].metrics:
        headers += _METRICS
    return tabulate(rows, headers=headers, disable_numparse=True)


def _metrics(scores: np.ndarray, targets: np.ndarray | None, thresholds: np.ndarray) -> dict[str, float] | None:
    if targets is None:
        return None
    metrics = multilabel_metrics(scores, targets, threshold=thresholds)
    return {name: 100 * metrics[name] for name in _METRICS}


def _other_metrics(found: dict[str, float] | None, reference: dict[str, float] | None, photos: int) -> str:
    """Of the metrics that differ by more than is tolerated the first, in a few words; empty without one."""
    tolerance = max(METRIC_TOLERANCE, 100 / photos)
    for name in _METRICS if found and reference else ():
        if not abs(found[name] - reference[name]) <= tolerance:
            return (
                f"its {name} of {found[name]:.2f} is not PyTorch's {reference[name]:.2f} (the tolerance is "
                f"{tolerance:.2g} points)"
            )
    return ""


def _parts(items: Sequence, size: int) -> Iterator[Sequence]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _batches(views: np.ndarray) -> Iterator[np.ndarray]:
    """In batches of `BATCH_SIZES`, until none is left."""
    start = 0
    for size in BATCH_SIZES:
        if start < len(views):
            yield views[start : start + size]
        start += size
