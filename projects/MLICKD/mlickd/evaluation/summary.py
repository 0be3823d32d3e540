"""One table of teacher, baseline and distilled student, over one or several seeds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from mlickd.errors import InputError

from .comparison import spread

__all__ = ["METRICS", "collect_results", "mean_and_spread", "summary_table"]

METRICS = ("mAP", "CF1", "OF1", "top3/CF1", "top3/OF1")
MODELS = {"teacher": "Teacher", "baseline": "Baseline", "distilled/prediction": "Distilled"}


def collect_results(folder: Path, teacher: Path | None = None) -> dict[str, dict[str, float]]:
    """Metrics of each model of one seed, in percent, by the model's folder.

    Args:
        folder: with the models' folders, each with the ``results.json`` of its evaluation.
        teacher: the teacher's folder, where it is elsewhere.

    Raises:
        InputError: one of the files is no such report.
    """
    results = {}
    for model in MODELS:
        path = (teacher if teacher and model == "teacher" else folder / model) / "results.json"
        if path.is_file():
            try:
                results[model] = json.loads(path.read_text())["multilabel"]
            except (ValueError, KeyError, TypeError, RecursionError):
                raise InputError(f"{path}: is no report of an evaluation; evaluate the run again") from None
    return results


def summary_table(
    results: Sequence[dict[str, dict[str, float]]],
    costs: dict[str, dict[str, float]] | None = None,
    seconds: Sequence[dict[str, float]] = (),
    format: str = "github",
) -> str:
    """The table as text.

    Args:
        results: of each seed, as :func:`collect_results` returns them.
        costs: of each model, as :func:`mlickd.engine.performance.inference_cost` returns them.
        seconds: of each step, of each seed. Those of a distilled student are of the teacher run on the training
            images and of both stages; the training of the teacher is a row of its own.
        format: of tabulate.

    Returns:
        A row for each model: mean over the seeds, with the standard deviation (of the sample) where there are
        several; and a row with the paired difference of the distilled student and the baseline.
    """
    rows = []
    for model, title in MODELS.items():
        values = [result[model] for result in results if model in result]
        if not values:
            continue
        row = [title, *(mean_and_spread([v[metric] for v in values]) for metric in METRICS)]
        if seconds:
            trained = [_training_seconds(model, s) for s in seconds if model in s]
            row.append(f"{statistics.mean(trained):.0f}" if trained else "")
        if costs:
            row += [f"{costs[model]['parameters']:.2f}", f"{costs[model]['milliseconds']:.1f}"]
        rows.append(row)
    student = "distilled/prediction"
    pairs = [(r["baseline"], r[student]) for r in results if {"baseline", student} <= r.keys()]
    if pairs:
        differences = [mean_and_spread([b[m] - a[m] for a, b in pairs], sign="+") for m in METRICS]
        rows.append(["Distilled - baseline", *differences])
    headers = ["", *METRICS]
    headers += ["training, s"] if seconds else []
    headers += ["million parameters", "ms an image"] if costs else []
    return tabulate(rows, headers=headers, tablefmt=format, disable_numparse=True)


def _training_seconds(model: str, seconds: dict[str, float]) -> float:
    """Seconds of the steps that make a model: of the distilled student, of both stages and their knowledge."""
    if model != "distilled/prediction":
        return seconds[model]
    return seconds[model] + seconds["distilled/feature"] + seconds.get("knowledge", 0.0)


def mean_and_spread(values: Sequence[float], sign: str = "") -> str:
    """The mean, and the standard deviation of the sample where there are several values; ``+`` gives it a sign."""
    found = spread(values)
    mean = f"{found.mean:{sign}.1f}"
    return mean if found.deviation is None else f"{mean} ± {found.deviation:.1f}"
