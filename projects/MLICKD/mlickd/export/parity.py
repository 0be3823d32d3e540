"""Comparison of an exported file with PyTorch, on photos."""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.config import CfgNode
from tabulate import tabulate
from torch import nn

from mlickd.data.build import build_test_mapper
from mlickd.data.catalog import class_names, dataset_records
from mlickd.data.records import label_targets
from mlickd.decoding import read_square
from mlickd.errors import InputError
from mlickd.evaluation.metrics import multilabel_metrics
from mlickd.progress import progress
from mlickd.runs import run_class_names, run_config

from .exported_classifier import ExportedClassifier

_BATCH_SIZE = 16
# Maximum difference of scores for equal pixels. ONNX Runtime computes sums in another order than PyTorch.
PIXEL_TOLERANCE = 1e-4
# Mean difference of scores for photos that Pillow resizes; their pixels differ by rounding. Single scores differ more.
PILLOW_TOLERANCE = 2e-3
# Fraction of threshold decisions that may differ; one decision may always differ.
DECISION_TOLERANCE = 0.005

_PYTORCH, _SAME_PIXELS, _PILLOW = "PyTorch", "ONNX, same pixels", "ONNX, resized by Pillow"


@dataclass(frozen=True)
class Parity:
    """Scores of photos from one pipeline, compared with PyTorch's scores.

    A pipeline is a way to read photos, and a program that runs the network.

    Attributes:
        title: name of the pipeline in the table.
        scores: (N, C) scores.
        largest, mean: absolute difference from PyTorch's scores.
        decisions: number of threshold decisions, among N * C, that differ from PyTorch's decisions.
        metrics: ``mAP``, ``CF1``, ``OF1`` in percent; empty without labels.
        problem: what is out of tolerance, in one line; empty if nothing is.
    """

    title: str
    scores: np.ndarray
    largest: float
    mean: float
    decisions: int
    metrics: dict[str, float]
    problem: str


def records_to_check(
    run: str | os.PathLike[str], dataset: str | None = None, num_images: int | None = None, seed: int = 0
) -> list[dict]:
    """Return the records of a dataset for the check of an exported file.

    Args:
        run: folder of the run.
        dataset: dataset with the photos; None is the first of ``DATASETS.TEST`` of the run.
        num_images: number of random images of the dataset; None is all.
        seed: seed of the random choice.

    Raises:
        InputError: the dataset is unknown, or has other classes than the run.
    """
    cfg = run_config(run)
    dataset = dataset or cfg.DATASETS.TEST[0]
    if class_names(dataset) != run_class_names(cfg, run):
        raise InputError(f"--dataset {dataset}: has other classes than {run}; name another one, or give --photos")
    records = dataset_records(dataset, boxes=False)
    return records if num_images is None else random.Random(seed).sample(records, min(num_images, len(records)))


def check_parity(cfg: CfgNode, model: nn.Module, exported: ExportedClassifier, records: Sequence[dict]) -> list[Parity]:
    """Compare an exported file with its model in PyTorch.

    PyTorch's scores are the scores of an evaluation. The file receives the same pixels, and also the pixels that
    ``mlickd predict`` reads (:func:`mlickd.decoding.read_square`).

    Args:
        cfg: configuration of the run.
        model: student of the run.
        exported: the exported file.
        records: records of photos; if all have ``labels``, the result has metrics.

    Returns:
        PyTorch's scores, then the file's scores for the same pixels and for photos as ``mlickd predict`` reads them.

    Raises:
        InputError: a photo cannot be read.
    """
    scores: dict[str, list[np.ndarray]] = {_PYTORCH: [], _SAME_PIXELS: [], _PILLOW: []}
    mapper = build_test_mapper(cfg)
    for start in progress(range(0, len(records), _BATCH_SIZE), "check", "batch"):
        batch = records[start : start + _BATCH_SIZE]
        samples = [mapper(record) for record in batch]
        with torch.inference_mode():
            scores[_PYTORCH] += [output["image_scores"].numpy() for output in model(samples)]
        pixels = np.stack([sample["image"].numpy().transpose(1, 2, 0) for sample in samples])
        rgb = pixels if cfg.INPUT.FORMAT == "RGB" else np.ascontiguousarray(pixels[..., ::-1])
        squares = np.stack([read_square(record, cfg.INPUT.SIZE_TEST) for record in batch])
        scores[_SAME_PIXELS] += [*exported.predict_scores(rgb)]
        scores[_PILLOW] += [*exported.predict_scores(squares)]
    targets = label_targets(records, cfg.MODEL.NUM_CLASSES) if all("labels" in record for record in records) else None
    expected = np.stack(scores[_PYTORCH])
    return [_compare(title, np.stack(found), expected, targets, exported) for title, found in scores.items()]


def _compare(
    title: str, found: np.ndarray, expected: np.ndarray, targets: np.ndarray | None, exported: ExportedClassifier
) -> Parity:
    difference, thresholds = np.abs(found.astype(np.float64) - expected), exported.thresholds
    largest, mean = float(difference.max()), float(difference.mean())
    decisions = int(((found >= thresholds) != (expected >= thresholds)).sum())
    metrics = {} if targets is None else multilabel_metrics(found, targets, threshold=thresholds)
    limits = [
        ("mean difference of scores", mean, PILLOW_TOLERANCE),
        ("number of different decisions", decisions, max(1.0, DECISION_TOLERANCE * found.size)),
    ]
    if title == _SAME_PIXELS:
        limits.append(("largest difference of scores", largest, PIXEL_TOLERANCE))
    failed = [f"the {name} is {value:.2g}, above {limit:.2g}" for name, value, limit in limits if not value <= limit]
    problem = f"{exported.path}, {title}: {failed[0]}" if failed else ""
    percentages = {name: 100 * metrics[name] for name in ("mAP", "CF1", "OF1") if name in metrics}
    return Parity(title, found, largest, mean, decisions, percentages, problem)


def parity_table(rows: Sequence[Parity]) -> str:
    """Return a table for a terminal; decisions and metrics use the thresholds in the file."""
    headers = ["scores of", "largest difference", "mean difference", "different decisions", *rows[0].metrics]
    cells = []
    for row in rows:
        metrics = [f"{value:.2f}" if value == value else "undefined" for value in row.metrics.values()]  # no positive
        decisions = f"{row.decisions} of {row.scores.size}"
        cells.append([row.title, f"{row.largest:.1e}", f"{row.mean:.1e}", decisions, *metrics])
    return tabulate(cells, headers=headers, disable_numparse=True)
