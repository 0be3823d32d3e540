"""Several files of scores under all conventions, with confidence intervals: the report of ``tools/evaluate.py``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from detectron2.utils.file_io import PathManager

from mlickd.errors import InputError
from mlickd.evaluation.bootstrap import CONFIDENCE, bootstrap_metrics, percentile_interval
from mlickd.evaluation.metrics import check_protocol, multilabel_metrics
from mlickd.evaluation.score_files import ImageScores, find_scores, read_scores
from mlickd.evaluation.thresholds import THRESHOLDS_FILE, ClassThresholds, read_thresholds

from .conventions import conventions, metrics_by_convention

__all__ = ["compare_scores"]

_TIES = "equal scores enter an AP curve together, and share the last of the top-k places equally"
_CLASSES = "classes without a positive are left out of the class means, not of what is counted over all classes"


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
    """
    Every convention for every run, and on request bootstrap intervals of the metrics and of their differences.

    Args:
        paths: files of scores, or folders of runs, see :func:`mlickd.evaluation.score_files.find_scores`. A folder's
            ``thresholds.json`` adds the metrics with a threshold for each class.
        dataset: which scores to take of a folder with several.
        threshold, topk: see :func:`multilabel_metrics`.
        ap: rule of the AP that is bootstrapped.
        resamples: of the bootstrap; 0 for none. With several runs on the same images and labels there are also
            intervals of the difference of each to the first, both on the same resamples.
        seed: of the resamples.

    Returns:
        What ``tools/evaluate.py --json`` writes; values in percent.

    Raises:
        InputError: a file is missing or wrong; thresholds are of other classes; threshold, topk, ap or resamples cannot
            be used.
    """
    try:
        check_protocol(threshold, topk, ap)
    except ValueError as error:
        raise InputError(f"--threshold, --topk, --ap: {error}; give another") from None
    if resamples < 0:
        raise InputError(f"--bootstrap {resamples}: give the number of resamples, for instance 1000")
    if len({os.path.abspath(path) for path in paths}) < len(paths):
        raise InputError("the same run is given twice; give each once")
    named = _short_names(paths)
    files = {name: read_scores(find_scores(path, dataset)) for name, path in named.items()}
    first = files[next(iter(files))]
    # In the order of the first, so that bootstrapped values are paired.
    same_images = {name: scores.as_images_of(first) for name, scores in files.items()}
    tuned = {name: _thresholds(path, files[name]) for name, path in named.items()}
    report = {
        "unit": "percent",
        "protocol": {"threshold": threshold, "topk": topk, "ties": _TIES, "classes": _CLASSES},
        "conventions": {
            convention.key: {"group": convention.group, "name": convention.name}
            for convention in conventions(threshold, topk, any(tuned.values()))
        },
        "runs": {
            name: _run(files[name], tuned[name], threshold, topk) | {"images_of_first": same_images[name] is not None}
            for name in files
        },
    }
    if resamples:
        protocol = {"threshold": threshold, "topk": topk, "ap": ap}
        report["bootstrap"] = _bootstrap(files, same_images, {"resamples": resamples, "seed": seed}, protocol)
    return report


def _short_names(paths: Sequence[str]) -> dict[str, str]:
    """Paths by what tells them apart: without the folders that they have in common."""
    if len(paths) == 1:
        return {paths[0]: paths[0]}
    common = os.path.commonpath([os.path.abspath(path) for path in paths])
    short = {os.path.relpath(os.path.abspath(path), common): path for path in paths}
    return {path if name == os.curdir else name: path for name, path in short.items()}


def _thresholds(path: str, scores: ImageScores) -> ClassThresholds | None:
    file = os.path.join(path, THRESHOLDS_FILE)
    if not PathManager.isfile(file):
        return None
    thresholds = read_thresholds(file)
    thresholds.check(file, scores.class_names, os.path.join(path, thresholds.checkpoint))
    return thresholds


def _run(scores: ImageScores, tuned: ClassThresholds | None, threshold: float, topk: int) -> dict:
    values = metrics_by_convention(
        scores.scores,
        scores.targets,
        threshold=threshold,
        topk=topk,
        class_thresholds=None if tuned is None else np.array(tuned.thresholds),
    )
    positives = (scores.targets == 1).sum(axis=0)
    names = scores.class_names
    counted = (scores.targets != -1).any(axis=1)
    return {
        "scores": scores.path,
        "data_sha256": scores.data_digest(),
        "images": int(counted.sum()),
        "images_ignored": int((~counted).sum()),
        "images_without_positives": int((counted & ~(scores.targets == 1).any(axis=1)).sum()),
        "classes": len(names),
        "classes_without_positives": [name for name, count in zip(names, positives, strict=True) if not count],
        "class_thresholds": None if tuned is None else tuned.tuned_on(),
        "values": {images: _percent(of_images) for images, of_images in values.items()},
    }


def _bootstrap(
    files: Mapping[str, ImageScores], same_images: Mapping[str, ImageScores | None], drawn: dict, protocol: dict
) -> dict:
    first_name = next(iter(files))
    values, runs, differences = {}, {}, {}
    for name, paired in same_images.items():
        scores = paired or files[name]
        try:
            values[name] = bootstrap_metrics(scores.scores, scores.targets, **drawn, **protocol)
        except ValueError as error:
            raise InputError(f"{scores.path}: {error}; evaluate the run again") from None
        estimates = multilabel_metrics(scores.scores, scores.targets, **protocol)
        runs[name] = {key: _interval(estimates[key], of_key) for key, of_key in values[name].items()}
        if paired and name != first_name:
            differences[name] = {
                key: _interval((runs[name][key]["value"] - runs[first_name][key]["value"]) / 100, b - a)
                for (key, a), b in zip(values[first_name].items(), values[name].values(), strict=True)
            }
    compared = {"runs": runs, "minus": first_name, "differences": differences}
    return {**drawn, **protocol, "confidence": CONFIDENCE, **compared}


def _interval(value: float, resampled: np.ndarray) -> dict:
    interval = percentile_interval(resampled)
    ends = {"low": 100 * interval.low, "high": 100 * interval.high}
    return {"value": 100 * value, **ends, "undefined_resamples": interval.undefined}


def _percent(values: Mapping[str, float]) -> dict[str, float]:
    return {key: 100 * value for key, value in values.items()}
