"""Scores under every convention in use, each named in words, for several runs, with bootstrap intervals.

Numbers of two publications are comparable only if their conventions agree. The project's own is documented in
:func:`mlickd.evaluation.metrics.multilabel_metrics`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from mlickd.errors import InputError
from mlickd.evaluation.counting import count_predictions, precision_recall, prediction_prefixes
from mlickd.evaluation.intervals import CONFIDENCE, bootstrap_metrics, percentile_interval
from mlickd.evaluation.metrics import check_protocol, checked_scores, multilabel_metrics, threshold_rule
from mlickd.evaluation.ranking import class_curves, order_dependent_extremes, ranking_curve
from mlickd.evaluation.score_files import ImageScores, find_scores, read_scores
from mlickd.evaluation.thresholds import THRESHOLDS_FILE, ClassThresholds, read_thresholds

__all__ = ["CLASS_THRESHOLDS", "compare_scores", "conventions", "metrics_by_convention", "report_as_text"]

# Prefix of the metrics with a threshold for each class.
CLASS_THRESHOLDS = "class_thresholds/"
# Images that count.
_IMAGES = {"all": "all images", "labeled": "images with a label"}
_PRECISIONS = {
    "mAP/ranking": "mAP: ranking AP (not interpolated)",
    "mAP/voc12": "mAP: VOC 2010-2012 (precision envelope)",
    "mAP/voc07": "mAP: VOC 2007 (11 points)",
    "micro_AP": "micro AP: all classes in one ranking",
}
_RATES = {
    "CP": "CP: precision, mean of the classes",
    "CR": "CR: recall, mean of the classes",
    "CF1": "CF1: harmonic mean of CP and CR",
    "CF1_class_mean": "CF1: mean of the classes' F1",
    "OP": "OP: precision, all classes together",
    "OR": "OR: recall, all classes together",
    "OF1": "OF1: harmonic mean of OP and OR",
}
_OTHERS = {
    "mAP/ties_worst": "mAP: ranking AP, a sort that puts negatives first among equals",
    "mAP/ties_best": "mAP: ranking AP, a sort that puts positives first among equals",
    "mAP/empty_classes_zero": "mAP: ranking AP, classes without a positive counted as 0",
}
_NOTES = """\
Equal scores enter an AP curve together, and share the last of the top-k places equally. Classes without a positive are
left out of class means, but not of what is counted over all classes."""


def conventions(threshold: float, topk: int, class_thresholds: bool = False) -> dict[str, tuple[str, str]]:
    """Return the group and the name of each convention by its key in :func:`metrics_by_convention`, in order.

    Args:
        threshold, topk: see :func:`multilabel_metrics`.
        class_thresholds: whether each class also has a threshold of its own.
    """
    rule = threshold_rule(threshold)
    rule = threshold_rule(threshold)
    rules = [rule, f"the {topk} highest scores of an image, whatever their value"]
    rules.append(f"those of the {topk} highest scores of an image with {rule}")
    groups = [("", "Average precision; equal scores enter the curve together", _PRECISIONS)]
    groups += [(prefix, f"Predicted: {r}", _RATES) for prefix, r in zip(prediction_prefixes(topk), rules, strict=True)]
    if class_thresholds:
        groups.append((CLASS_THRESHOLDS, f"Predicted: score >= the threshold of its class ({THRESHOLDS_FILE})", _RATES))
    groups.append(("", "For comparison only: what other implementations may give", _OTHERS))
    return {prefix + key: (group, name) for prefix, group, names in groups for key, name in names.items()}


def metrics_by_convention(
    scores: np.ndarray,
    targets: np.ndarray,
    *,
    threshold: float = 0.5,
    topk: int = 3,
    class_thresholds: np.ndarray | None = None,
) -> dict[str, dict[str, float]]:
    """Compute every convention of :func:`conventions`, for all images and for those with a label.

    Classes without a positive are left out of class means. Ignored entries count nowhere.

    Args:
        scores, targets, threshold, topk: see :func:`multilabel_metrics`.
        class_thresholds: (C,) thresholds, used in addition.

    Returns:
        Fractions by key, for ``all`` images and, unless they are the same, for ``labeled`` images.

    Raises:
        ValueError: see :func:`multilabel_metrics`.
    """
    scores, targets = checked_scores(scores, targets)
    for thresholds in (threshold, class_thresholds):
        if thresholds is not None:
            check_protocol(thresholds, topk, "ranking")
    labeled = (targets == 1).any(axis=1)
    values = {"all": _metrics(scores, targets, threshold, int(topk), class_thresholds)}
    if not labeled[(targets != -1).any(axis=1)].all():
        values["labeled"] = _metrics(scores[labeled], targets[labeled], threshold, int(topk), class_thresholds)
    return values


def _metrics(
    scores: np.ndarray, targets: np.ndarray, threshold: float, topk: int, class_thresholds: np.ndarray | None
) -> dict[str, float]:
    known, positive = targets != -1, targets == 1
    curves = class_curves(scores, known, positive)
    counted = [curve for curve in curves if len(curve.positives)]
    extremes = [order_dependent_extremes(curve) for curve in counted]
    values = {f"mAP/{ap}": _mean([c.average_precision(ap) for c in counted]) for ap in ("ranking", "voc12", "voc07")}
    values["micro_AP"] = ranking_curve(scores.ravel(), known.ravel(), positive.ravel()).average_precision()
    values["mAP/ties_worst"] = _mean([worst for worst, _ in extremes])
    values["mAP/ties_best"] = _mean([best for _, best in extremes])
    values["mAP/empty_classes_zero"] = float(sum(curve.average_precision() for curve in counted) / len(curves))
    rules = list(
        zip(prediction_prefixes(topk), count_predictions(scores, known, positive, threshold, topk), strict=True)
    )
    if class_thresholds is not None:
        rules.append((CLASS_THRESHOLDS, count_predictions(scores, known, positive, class_thresholds, topk)[0]))
    for prefix, (hits, predicted) in rules:
        rates = precision_recall(hits, predicted, np.count_nonzero(positive, axis=0).astype(np.float64))
        values |= {prefix + name: float(value) for name, value in rates.items()}
    return values


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def compare_scores(
    paths: Sequence[str],
    *,
    dataset: str | None = None,
    threshold: float = 0.5,
    topk: int = 3,
    ap: str = "ranking",
    resamples: int = 0,
    seed: int = 0,
) -> dict:
    """Compute every convention for every run and, on request, bootstrap intervals of metrics and differences.

    Args:
        paths: files of scores, or folders of runs, see :func:`mlickd.evaluation.score_files.find_scores`. The
            ``thresholds.json`` of a folder adds the metrics with a threshold for each class.
        dataset: dataset whose scores are taken if a folder has several.
        threshold, topk: see :func:`multilabel_metrics`.
        ap: rule of the AP that is bootstrapped.
        resamples: number of resamples of the bootstrap; 0 for none. Runs on the images and labels of the first one
            also get intervals of their difference to it, on the same resamples.
        seed: seed of the resamples.

    Returns:
        What ``tools/evaluate.py --json`` writes; values in percent.

    Raises:
        InputError: a file is missing or wrong; thresholds are those of other classes; threshold, topk, ap or resamples
            cannot be used.
    """
    try:
        check_protocol(threshold, topk, ap)
    except ValueError as error:
        raise InputError(f"--threshold, --topk, --ap: {error}; give another") from None
    absolute = [os.path.abspath(path) for path in paths]
    if resamples < 0 or len(set(absolute)) < len(absolute):
        raise InputError(f"--bootstrap {resamples}, {' '.join(paths)}: give each run once, and 0 resamples or more")
    common = os.path.commonpath(absolute)
    names = [path if len(paths) == 1 or full == common else os.path.relpath(full, common)
             for path, full in zip(paths, absolute, strict=True)]  # fmt: skip
    files = {name: read_scores(find_scores(path, dataset)) for name, path in zip(names, paths, strict=True)}
    tuned = {name: _class_thresholds(path, files[name]) for name, path in zip(names, paths, strict=True)}
    # In the order of the first run, so that bootstrapped values are paired.
    paired = {name: scores.align_with(files[names[0]]) for name, scores in files.items()}
    report = {
        "unit": "percent",
        "protocol": {"threshold": threshold, "topk": topk},
        "conventions": conventions(threshold, topk, any(tuned.values())),
        "runs": {
            name: {**_run(scores, tuned[name], threshold, topk), "images_of_first": paired[name] is not None}
            for name, scores in files.items()
        },
    }
    if resamples:
        protocol = {"threshold": threshold, "topk": topk, "ap": ap}
        report["bootstrap"] = _bootstrap(files, paired, {"resamples": resamples, "seed": seed}, protocol)
    return report


def _class_thresholds(path: str, scores: ImageScores) -> ClassThresholds | None:
    file = os.path.join(path, THRESHOLDS_FILE)
    if not os.path.isfile(file):
        return None
    thresholds = read_thresholds(file)
    thresholds.check(file, scores.class_names, os.path.join(path, thresholds.checkpoint))
    return thresholds


def _run(scores: ImageScores, tuned: ClassThresholds | None, threshold: float, topk: int) -> dict:
    thresholds = None if tuned is None else np.array(tuned.thresholds)
    values = metrics_by_convention(
        scores.scores, scores.targets, threshold=threshold, topk=topk, class_thresholds=thresholds
    )
    positives = (scores.targets == 1).sum(axis=0)
    counted = (scores.targets != -1).any(axis=1)
    return {
        "scores": scores.path,
        "data_sha256": scores.data_digest(),
        "images": int(counted.sum()),
        "images_ignored": int((~counted).sum()),
        "images_without_positives": int((counted & ~(scores.targets == 1).any(axis=1)).sum()),
        "classes": len(positives),
        "classes_without_positives": [n for n, count in zip(scores.class_names, positives, strict=True) if not count],
        "class_thresholds": tuned and tuned.tuned_on(),
        "values": {images: {key: 100 * v for key, v in metrics.items()} for images, metrics in values.items()},
    }


def _bootstrap(
    files: Mapping[str, ImageScores], paired: Mapping[str, ImageScores | None], drawn: dict, protocol: dict
) -> dict:
    first = next(iter(files))
    values, runs, differences = {}, {}, {}
    for name in files:
        scores = paired[name] or files[name]
        try:
            values[name] = bootstrap_metrics(scores.scores, scores.targets, **drawn, **protocol)
        except ValueError as error:
            raise InputError(f"{scores.path}: {error}; evaluate the run again") from None
        estimates = multilabel_metrics(scores.scores, scores.targets, **protocol)
        runs[name] = {key: _interval(100 * estimates[key], resampled) for key, resampled in values[name].items()}
        if paired[name] and name != first:
            differences[name] = {
                key: _interval(runs[name][key]["value"] - runs[first][key]["value"], values[name][key] - reference)
                for key, reference in values[first].items()
            }
    compared = {"confidence": CONFIDENCE, "runs": runs, "minus": first, "differences": differences}
    return {**drawn, **protocol, **compared}


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
    previous = ""
    for key, (group, convention) in report["conventions"].items():
        if group != previous:
            rows.append([group, *[""] * len(columns)])
        previous = group
        values = [runs[name]["values"][images].get(key) for name, images in columns]
        rows.append([f"  {convention}", *("" if value is None else f"{value:.2f}" for value in values)])
    parts = [_table(rows, headers), "\n".join([_NOTES, *(line for name in runs for line in _notes(name, runs[name]))])]
    if "bootstrap" in report:
        parts.append(_intervals_as_text(report["bootstrap"]))
    return "\n\n".join(parts)


def _notes(name: str, run: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{name}: {run['images']} images, {run['images_without_positives']} of them without a label, "
        f"{run['images_ignored']} others without a known label left out; {run['classes']} classes"
    ]
    if run["classes_without_positives"]:
        lines.append(f"  classes without a positive: {', '.join(run['classes_without_positives'])}")
    if tuned := run["class_thresholds"]:
        same = ", these very images: the metrics here are too good" if tuned["sha256"] == run["data_sha256"] else ""
        lines.append(f"  thresholds of each class: tuned on {tuned['name']} ({tuned['images']} images){same}")
    lines.append(f"  images, labels and classes: sha256 {run['data_sha256']}")
    if not run["images_of_first"]:
        lines.append("  on other images, labels or classes than the first run: not comparable with it")
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
        f"Percentiles of {bootstrap['resamples']} resamples of the images, seed {bootstrap['seed']}; mAP by the rule "
        f"'{bootstrap['ap']}'. A class without a positive in a resample is left out of its class means; {undefined} "
        "resamples without any positive are left out."
    )
    return f"{_table(rows, headers)}\n\n{note}"


def _table(rows: list[list[str]], headers: list[str]) -> str:
    alignment = ("left", *["right"] * (len(headers) - 1))
    return tabulate(rows, headers, disable_numparse=True, colalign=alignment, preserve_whitespace=True)
