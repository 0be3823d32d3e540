"""The report of a comparison: tables like in the paper, charts, and JSON with the origin of every value."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tabulate import tabulate

from mlickd.errors import InputError
from mlickd.evaluation.intervals import CONFIDENCE, Summary, summarize
from mlickd.evaluation.metrics import TABLE_METRICS
from mlickd.evaluation.ranking import micro_curve
from mlickd.evaluation.score_files import SCORES_FILE, read_scores
from mlickd.files import write_atomic, write_json
from mlickd.runs import STUDY_FILE
from mlickd.visualization.charts import draw_training_curves
from mlickd.visualization.study_charts import draw_class_gains, draw_precision_recall

from .comparison import Comparison, TrainedModel, difference_over_images
from .model_selection import FEW_PHOTOS, select_student
from .training_methods import BASELINE, TEACHER

# Titles of TABLE_METRICS.
_COLUMNS = ("mAP", "CF1", "OF1", "top-3 CF1", "top-3 OF1")
# TABLE_METRICS in percent, or their differences in points, by seed.
_BySeed = Mapping[int | None, np.ndarray]


def write_comparison_report(
    comparison: Comparison, *, costs: Mapping[str, Mapping[str, float]] | None = None, command: str = ""
) -> tuple[str, list[str]]:
    """Write ``comparison.md``, ``comparison.json`` and the charts into the folder of a comparison.

    Args:
        comparison: comparison whose runs are finished, failed or missing.
        costs: by method, ``parameters`` in millions and ``milliseconds`` per image, which add columns to the table.
        command: command that made the report.

    Returns:
        The text of ``comparison.md``, and a line for each failure.

    Raises:
        InputError: a result is damaged, runs have different protocols or data, or a file cannot be written.
    """
    folder, models = comparison.folder, comparison.models
    done = [model for model in models if model.status == "done"]
    _check_reports(done)
    values: dict[str, dict[int | None, np.ndarray]] = {model.method: {} for model in models}
    for model in done:
        values[model.method][model.seed] = np.array([model.report["metrics"][metric] for metric in TABLE_METRICS])
    gains = _gains(values, (BASELINE,) if comparison.teacher_per_seed else (BASELINE, TEACHER))
    failures = [f"{model.method} (seed {model.seed}): {model.failure}" for model in models if model.status == "failed"]
    parts = [_method_table(comparison, values, costs or {})]
    runs = {(model.method, model.seed): model for model in done}
    over_images = {
        name: difference_over_images([(runs[name, seed], runs[BASELINE, seed]) for seed in gain])
        for name, gain in gains.items()
    }
    if gains:
        cells = {name: [*_spreads(gain), over_images[name]] for name, gain in gains.items()}
        rows = [[name, *map(Summary.interval_text, found), len(gains[name])] for name, found in cells.items()]
        parts.append(_markdown(rows, [f"difference to {BASELINE}, in points", *_COLUMNS, "mAP, over photos", "pairs"]))
    if failures:
        parts.append("Failed:\n\n" + "\n".join(f"- {failure}" for failure in failures))
    parts += _notes(comparison, done)
    held_out: dict = {"chosen": None}
    if comparison.held_out:
        section, held_out = select_student(comparison)
        parts += ["## Held-out photos", section]
    if held_out["chosen"]:
        doubt = ", but with so few, the choice is uncertain" if sum(held_out["images"].values()) < FEW_PHOTOS else ""
        parts.append(
            f"Use `{held_out['chosen']}`: its method has the best mAP on the held-out photos{doubt}. `mlickd predict`, "
            "`export` and `visualize` take it when they get the folder of this report."
        )
    content = {
        "data": {"train": comparison.train, "test": comparison.test},
        "unit": "percent",
        "confidence": CONFIDENCE,
        "protocol": done[0].report["protocol"] if done else None,
        "iterations": comparison.iterations,
        "summary": {name: _as_dict(by_seed) for name, by_seed in values.items()},
        "differences": {name: _as_dict(by_seed) for name, by_seed in gains.items()},
        "differences_over_images": {name: {"mAP": asdict(found)} for name, found in over_images.items()},
        "chosen": held_out.pop("chosen"),
        "held_out": held_out,
        "costs": costs,
        "runs": [_describe_run(model, folder) for model in models],
        "failures": failures,
        "command": command,
    }
    write_json(folder / STUDY_FILE, content)
    text = "\n\n".join(parts) + "\n"
    write_atomic(folder / "comparison.md", text, "give another --output")
    if students := [model for model in done if model.method != TEACHER]:
        _draw(folder, students)
    return text, failures


def _check_reports(done: Sequence[TrainedModel]) -> None:
    """Check that the reports are comparable and have all metrics."""
    for model in done:
        first = done[0].report
        wrong = [key for key in ("protocol", "counts", "data") if model.report.get(key) != first.get(key)]
        wrong += [name for name in TABLE_METRICS if model.report["metrics"].get(name) is None]
        if wrong:
            raise InputError(
                f"{model.report_path}: {wrong[0]} is missing or differs from {done[0].report_path}; evaluate all runs "
                "in the same way, with a --test that has labels"
            )


def _gains(values: Mapping[str, _BySeed], without: Sequence[str] = (BASELINE, TEACHER)) -> dict[str, _BySeed]:
    """Return the differences to the baseline of the same seed, except for the methods in ``without``."""
    baseline, gains = values.get(BASELINE, {}), {}
    for name, by_seed in values.items():
        pairs = {seed: by_seed[seed] - baseline[seed] for seed in by_seed if seed in baseline}
        if pairs and name not in without:
            gains[name] = pairs
    return gains


def _spreads(by_seed: _BySeed) -> list[Summary]:
    """Return a summary over the seeds for each of TABLE_METRICS; an empty list without a seed."""
    return [summarize(column) for column in np.array(list(by_seed.values())).T]


def _as_dict(by_seed: _BySeed) -> dict[str, dict]:
    return dict(zip(TABLE_METRICS, map(asdict, _spreads(by_seed)), strict=False))


def _markdown(rows: Sequence, headers: Sequence[str] | str) -> str:
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _method_table(
    comparison: Comparison, values: Mapping[str, _BySeed], costs: Mapping[str, Mapping[str, float]]
) -> str:
    rows = []
    for name, by_seed in values.items():
        models = [model for model in comparison.models if model.method == name]
        row = {"": name, **dict.fromkeys(_COLUMNS, "")}
        row |= dict(zip(_COLUMNS, (found.text() for found in _spreads(by_seed)), strict=False))
        seeds: dict[str, list[str]] = {}
        for model in models:
            if model.seed is not None:
                seeds.setdefault(model.status, []).append(str(model.seed))
        seconds = [model.seconds for model in models if model.status == "done" and model.seconds]
        row["seeds"] = "; ".join(f"{status}: {', '.join(numbers)}" for status, numbers in seeds.items())
        row["iterations"] = " + ".join(map(str, comparison.iterations.get(name, ())))
        row["training, s"] = f"{np.mean(seconds):.0f}" if seconds else ""
        if costs:
            row["million parameters"] = f"{costs[name]['parameters']:.2f}"
            row["ms per image"] = f"{costs[name]['milliseconds']:.1f}"
        rows.append(row)
    return _markdown(rows, "keys")


def _notes(comparison: Comparison, done: Sequence[TrainedModel]) -> list[str]:
    notes = [
        f"Trained on {comparison.train}, tested on {comparison.test}. Values are in percent: mean ± standard deviation "
        f"of the sample over the seeds. Differences are taken between runs of equal seed, with the "
        f"{100 * CONFIDENCE:g}% confidence interval of their mean (Student's t with n - 1 degrees of freedom; not "
        "corrected for the number of comparisons). 'mAP, over photos' has the interval of the same mean over resampled "
        "test photos, the same for all runs (bootstrap). A difference is clear only if neither interval contains 0. "
        "Runs that failed or were not run are left out. Seconds are means of the runs that were not interrupted."
    ]
    if names := dict.fromkeys(name for method in comparison.methods for name in method.cfg.DATASETS.UNLABELED):
        notes.append(f"Distilled students also learned from {', '.join(names)}, without labels.")
    if not comparison.teacher_per_seed:
        teacher = comparison.teacher or f"seed {comparison.seeds[0]}"
        notes.append(f"All students have one teacher, unless their method names another: {teacher}.")
    if done:
        protocol, counts = done[0].report["protocol"], done[0].report["counts"]
        notes.append(
            f"Protocol: AP {protocol['ap_rule']}; {protocol['ties']}; predicted where {protocol['threshold_rule']}; "
            f"top-{protocol['topk']}: {protocol['topk_rule']}. {counts['images']} images, {counts['classes']} classes "
            "with a positive. CF1 is the harmonic mean of CP and CR."
        )
    return notes


def _describe_run(model: TrainedModel, root: Path) -> dict:
    report = model.report or {}
    return {
        "method": model.method,
        "seed": model.seed,
        "status": model.status,
        "folder": os.path.relpath(model.folder, root),
        "seconds": model.seconds,
        "metrics": report.get("metrics"),
        "per_class": {name: values["AP"] for name, values in report.get("per_class", {}).items()},
        "versions": report.get("versions"),
        "jobs": {job.name: job.record() for job in model.jobs},
    }


def _draw(folder: Path, students: Sequence[TrainedModel]) -> None:
    """Draw the gain of each class, precision over recall, and the training curves of finished students."""
    average_precisions: dict[str, dict[int, np.ndarray]] = {}
    curves: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    runs: dict[str, list[Path]] = {}
    for model in students:
        # The AP of a class without a positive is None in JSON, and becomes NaN.
        per_class = {name: values["AP"] for name, values in model.report["per_class"].items()}
        average_precisions.setdefault(model.method, {})[model.seed] = np.array(list(per_class.values()), dtype=float)
        scores = read_scores(str(model.report_path.with_name(SCORES_FILE)))
        curves.setdefault(model.method, []).append(micro_curve(scores.scores, scores.targets).precision_recall())
        if len(curves[model.method]) == 1:
            runs[f"{model.method}, seed {model.seed}"] = [job.folder for job in model.jobs]
    if gains := {name: np.stack(list(by_seed.values())) for name, by_seed in _gains(average_precisions).items()}:
        draw_class_gains(gains, list(per_class), folder / "classes.png")
    draw_precision_recall(curves, folder / "precision_recall.png")
    draw_training_curves(runs, students[0].test, folder / "curves.png")
