"""Compute the metrics of several runs under each common convention, with bootstrap intervals.

Results of two publications are comparable only if their conventions agree.
:func:`mlickd.evaluation.metrics.multilabel_metrics` documents the convention of this project.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from tabulate import tabulate

from mlickd.errors import InputError
from mlickd.evaluation.counting import prediction_prefixes
from mlickd.evaluation.intervals import CONFIDENCE, bootstrap_metrics, percentile_interval
from mlickd.evaluation.metrics import check_protocol, multilabel_metrics, threshold_rule
from mlickd.evaluation.ranking import AVERAGE_PRECISION_RULES, micro_curve
from mlickd.evaluation.score_files import ImageScores, read_scores, scores_path
from mlickd.thresholds import THRESHOLDS_FILE, read_thresholds

logger = logging.getLogger(__name__)

# Key prefix of the metrics that use a separate threshold for each class.
CLASS_THRESHOLDS = "class_thresholds/"
# Column titles of the subsets of images.
_IMAGES = {"all": "all images", "labeled": "images with a label"}
_AVERAGE_PRECISIONS = {
    "mAP/ranking": "mAP: ranking AP (not interpolated)",
    "mAP/voc12": "mAP: VOC 2010-2012 (precision envelope)",
    "mAP/voc07": "mAP: VOC 2007 (11 points)",
    "micro_AP": "micro AP: all classes in one ranking",
}
_PRECISION_RECALL_F1 = {
    "CP": "CP: precision, mean of the classes",
    "CR": "CR: recall, mean of the classes",
    "CF1": "CF1: harmonic mean of CP and CR",
    "CF1_class_mean": "CF1: mean of the classes' F1",
    "OP": "OP: precision, all classes together",
    "OR": "OR: recall, all classes together",
    "OF1": "OF1: harmonic mean of OP and OR",
}
_NOTES = """\
Equal scores enter an AP curve together. If they tie for the last top-k places, they share these places equally. Class
means exclude classes without a positive; metrics of all classes together include them."""


def conventions(threshold: float, topk: int, class_thresholds: bool = False) -> dict[str, tuple[str, str]]:
    """Map each key of :func:`metrics_by_convention` to the group and the name of its convention, in display order.

    With ``class_thresholds``, the conventions include predictions with a separate threshold for each class.
    """
    rule, top = threshold_rule(threshold), f"the {topk} highest scores of an image"
    rules = [rule, f"{top}, at any value", f"{top}, if they have {rule}"]
    prefixes = list(prediction_prefixes(topk))
    if class_thresholds:
        prefixes.append(CLASS_THRESHOLDS)
        rules.append(f"score >= the threshold of its class ({THRESHOLDS_FILE})")
    group = "Average precision; equal scores enter the curve together"
    found = {key: (group, name) for key, name in _AVERAGE_PRECISIONS.items()}
    for prefix, rule in zip(prefixes, rules, strict=True):
        found |= {prefix + key: (f"Predicted: {rule}", name) for key, name in _PRECISION_RECALL_F1.items()}
    return found


def metrics_by_convention(
    scores: np.ndarray,
    targets: np.ndarray,
    *,
    threshold: float = 0.5,
    topk: int = 3,
    class_thresholds: np.ndarray | None = None,
) -> dict[str, dict[str, float]]:
    """Compute the metrics under every convention of :func:`conventions`.

    Args:
        scores, targets, threshold, topk: see :func:`multilabel_metrics`.
        class_thresholds: (C,) thresholds of additional metrics; None for no additional metrics.

    Returns:
        Metrics by key, as fractions: for ``all`` images and, if some images have no label, for ``labeled`` images.

    Raises:
        ValueError: see :func:`multilabel_metrics`.
    """
    labeled, counted = (targets == 1).any(axis=1), (targets != -1).any(axis=1)
    subsets = {"all": (scores, targets)}
    if labeled.any() and not labeled[counted].all():
        subsets["labeled"] = (scores[labeled], targets[labeled])
    found = {}
    for subset, arrays in subsets.items():
        values = {"micro_AP": micro_curve(*arrays).average_precision()}
        for ap in AVERAGE_PRECISION_RULES:
            metrics = multilabel_metrics(*arrays, threshold=threshold, topk=topk, ap=ap)
            values |= {**metrics, f"mAP/{ap}": metrics["mAP"]}
        if class_thresholds is not None:
            tuned = multilabel_metrics(*arrays, threshold=class_thresholds)
            values |= {CLASS_THRESHOLDS + name: value for name, value in tuned.items()}
        found[subset] = {key: values[key] for key in conventions(threshold, topk, class_thresholds is not None)}
    return found


def compare_scores(
    paths: Sequence[str],
    *,
    dataset: str | None = None,
    threshold: float = 0.5,
    topk: int = 3,
    ap: str = "ranking",
    resamples: int = 0,
) -> dict:
    """Compute the metrics of every run under every convention, and bootstrap intervals of metrics and differences.

    Args:
        paths: score files or run folders, see :func:`mlickd.evaluation.score_files.scores_path`. A
            ``thresholds.json`` in a folder adds the metrics with a separate threshold for each class.
        dataset: dataset of the scores, if a folder has scores of several datasets.
        threshold, topk: see :func:`multilabel_metrics`.
        ap: AP rule of the bootstrapped mAP.
        resamples: number of resamples; 0 computes no intervals. If a run has the images and labels of the first run,
            the report also has intervals of its difference from the first run, from the same resamples.

    Returns:
        The content of ``mlickd evaluate --json``; values in percent.

    Raises:
        InputError: a file is missing or damaged, thresholds belong to other classes, or an argument is out of range.
    """
    absolute = [os.path.abspath(path) for path in paths]
    try:
        check_protocol(threshold, topk, ap)
    except ValueError as error:
        raise InputError(f"--threshold {threshold:g}, --topk {topk}, --ap {ap}: {error}") from None
    if resamples < 0:
        raise InputError(f"--bootstrap {resamples}: must be 0 or more")
    if len(set(absolute)) < len(absolute):
        raise InputError(f"{' '.join(paths)}: give each run once")
    common = os.path.commonpath(absolute)
    names = [os.path.relpath(path, common) for path in absolute] if len(paths) > 1 else paths
    runs: dict[str, dict] = {}
    files: dict[str, ImageScores] = {}
    for name, path in zip(names, paths, strict=True):
        scores = read_scores(scores_path(path, dataset))
        # Differences are computed within a resample, so runs on the same images must list them in the same order.
        same_order = scores.align_with(files[names[0]]) if files else scores
        files[name] = same_order or scores
        runs[name] = {**_evaluate(path, scores, threshold, topk), "images_of_first": same_order is not None}
    report = {
        "unit": "percent",
        "protocol": {"threshold": threshold, "topk": topk},
        "conventions": conventions(threshold, topk, any(run["class_thresholds"] for run in runs.values())),
        "runs": runs,
    }
    if resamples:
        paired = [name for name in names[1:] if runs[name]["images_of_first"]]
        protocol = {"threshold": threshold, "topk": topk, "ap": ap}
        report["bootstrap"] = _bootstrap(files, paired, resamples, protocol)
    return report


def _evaluate(path: str, scores: ImageScores, threshold: float, topk: int) -> dict:
    tuned, file = None, os.path.join(path, THRESHOLDS_FILE)
    if os.path.isfile(file):
        try:
            tuned = read_thresholds(file)
            tuned.check(file, scores.class_names, os.path.join(path, tuned.checkpoint))
        except InputError as error:
            logger.warning("Metrics with these thresholds are left out: %s", error)
            tuned = None
    arrays, thresholds = (scores.scores, scores.targets), tuned and np.array(tuned.thresholds)
    values = metrics_by_convention(*arrays, threshold=threshold, topk=topk, class_thresholds=thresholds)
    counts = multilabel_metrics(*arrays)
    return {
        "scores": scores.path,
        "data_sha256": scores.data_digest(),
        **{key: counts[key] for key in ("images", "images_ignored", "images_without_positives")},
        "classes": len(scores.class_names),
        "classes_without_positives": [scores.class_names[i] for i in np.flatnonzero(np.isnan(counts["AP"]))],
        "class_thresholds": tuned and tuned.tuned_on(),
        "values": {images: {key: 100 * v for key, v in metrics.items()} for images, metrics in values.items()},
    }


def _bootstrap(files: Mapping[str, ImageScores], paired: Sequence[str], resamples: int, protocol: dict) -> dict:
    """Return the intervals of every run, and of the difference of each ``paired`` run from the first run."""
    first = next(iter(files))
    resampled, runs = {}, {}
    for name, scores in files.items():
        try:
            values = bootstrap_metrics(scores.scores, scores.targets, resamples=resamples, **protocol)
            del values["AP"]
            resampled[name] = values
        except ValueError as error:
            raise InputError(f"{scores.path}: {error}") from None
        estimates = multilabel_metrics(scores.scores, scores.targets, **protocol)
        runs[name] = {key: _interval(100 * estimates[key], values) for key, values in resampled[name].items()}
    differences = {
        name: {
            key: _interval(runs[name][key]["value"] - runs[first][key]["value"], resampled[name][key] - values)
            for key, values in resampled[first].items()
        }
        for name in paired
    }
    drawn = {"resamples": resamples, "confidence": CONFIDENCE}
    return {**drawn, **protocol, "runs": runs, "minus": first, "differences": differences}


def _interval(value: float, resampled: np.ndarray) -> dict:
    low, high = percentile_interval(resampled)
    undefined = int(np.isnan(resampled).sum())
    return {"value": value, "low": 100 * low, "high": 100 * high, "undefined_resamples": undefined}


def report_as_text(report: Mapping[str, Any]) -> str:
    """Return the tables of :func:`compare_scores` for a terminal."""
    runs = report["runs"]
    columns = [(name, images) for name in runs for images in runs[name]["values"]]
    several = any(images != "all" for _, images in columns)
    headers = ["%", *(f"{name}\n{_IMAGES[images]}" if several else name for name, images in columns)]
    rows: list[list[str]] = []
    for group, members in groupby(report["conventions"].items(), key=lambda item: item[1][0]):
        rows.append([group, *[""] * len(columns)])
        for key, (_, convention) in members:
            values = [runs[name]["values"][images].get(key) for name, images in columns]
            rows.append([f"  {convention}", *("" if value is None else f"{value:.2f}" for value in values)])
    notes = [_NOTES, *(line for name, run in runs.items() for line in _notes(name, run))]
    parts = [_table(rows, headers), "\n".join(notes)]
    if "bootstrap" in report:
        parts.append(_intervals_as_text(report["bootstrap"]))
    return "\n\n".join(parts)


def _notes(name: str, run: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{name}: {run['images']} images, {run['images_without_positives']} of them without a label; "
        f"{run['images_ignored']} images without a known label are left out; {run['classes']} classes"
    ]
    if run["classes_without_positives"]:
        lines.append(f"  classes without a positive: {', '.join(run['classes_without_positives'])}")
    if tuned := run["class_thresholds"]:
        same = ", the same images as here, so metrics are too high" if tuned["sha256"] == run["data_sha256"] else ""
        lines.append(f"  class thresholds: tuned on {tuned['name']} ({tuned['images']} images){same}")
    lines.append(f"  images, labels and classes: sha256 {run['data_sha256']}")
    if not run["images_of_first"]:
        lines.append("  not comparable with the first run: the images, labels or classes differ")
    return lines


def _intervals_as_text(bootstrap: Mapping[str, Any]) -> str:
    columns = {name: ("", values) for name, values in bootstrap["runs"].items()}
    for name, difference in bootstrap["differences"].items():
        columns[f"{name}\n- {bootstrap['minus']}"] = ("+", difference)
    headers = [f"{100 * bootstrap['confidence']:.0f} % interval", *columns]
    rows = []
    for key in next(iter(bootstrap["runs"].values())):
        cells = [(sign, values[key]) for sign, values in columns.values()]
        rows.append([key, *(f"{v['value']:{s}.2f} [{v['low']:{s}.2f}, {v['high']:{s}.2f}]" for s, v in cells)])
    undefined = max(value["undefined_resamples"] for run in bootstrap["runs"].values() for value in run.values())
    note = (
        f"Percentiles of {bootstrap['resamples']} resamples of the images; mAP by the rule '{bootstrap['ap']}'. Class "
        f"means of a resample exclude classes without a positive in it. {undefined} resamples without any positive are "
        "left out."
    )
    return f"{_table(rows, headers)}\n\n{note}"


def _table(rows: list[list[str]], headers: list[str]) -> str:
    alignment = ("left", *["right"] * (len(headers) - 1))
    return tabulate(rows, headers, disable_numparse=True, colalign=alignment, preserve_whitespace=True)
