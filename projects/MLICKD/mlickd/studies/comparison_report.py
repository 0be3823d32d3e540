"""The report of a comparison: tables in the form of the paper, every value with how it was made, and charts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
from tabulate import tabulate

from mlickd.errors import InputError
from mlickd.evaluation.bootstrap import CONFIDENCE
from mlickd.evaluation.metrics import TABLE_METRICS
from mlickd.evaluation.ranking import micro_precision_recall
from mlickd.evaluation.score_files import SCORES_FILE, read_scores
from mlickd.evaluation.spread import Spread, spread
from mlickd.files import write_json, write_whole_file
from mlickd.visualization import draw_training_curves
from mlickd.visualization.study_charts import draw_class_gains, draw_precision_recall

from .comparison import Comparison, Model
from .methods import BASELINE

__all__ = ["PUBLISHED", "write_comparison_report"]

# Titles of TABLE_METRICS.
_COLUMNS = ("mAP", "CF1", "OF1", "top-3 CF1", "top-3 OF1")
_PUBLISHED_SOURCE = "published (paper, VGG16, 224 px)"
# Liu et al., ACM MM 2018, arXiv 1809.05884, tables on MS-COCO and NUS-WIDE: TABLE_METRICS in percent.
PUBLISHED = {
    "coco": {
        "baseline": (70.9, 63.6, 67.0, 60.7, 66.7),
        "hinton": (71.3, 64.7, 69.3, 61.5, 67.6),
        "fitnets": (72.5, 65.2, 70.9, 62.3, 68.3),
        "attention_transfer": (71.4, 64.6, 69.8, 61.6, 67.8),
        "distilled": (74.6, 69.2, 74.0, 66.8, 72.7),
    },
    "nus_wide": {
        "baseline": (55.6, 52.0, 67.2, 47.5, 64.8),
        "hinton": (57.2, 54.3, 69.5, 50.3, 67.5),
        "fitnets": (57.4, 54.9, 70.4, 51.4, 68.6),
        "attention_transfer": (57.6, 55.2, 70.3, 51.7, 68.8),
        "distilled": (60.1, 58.7, 73.7, 53.8, 71.1),
    },
}


def write_comparison_report(
    comparison: Comparison,
    *,
    published: str | None = None,
    costs: Mapping[str, Mapping[str, float]] | None = None,
    command: str = "",
) -> tuple[str, list[str]]:
    """Write ``comparison.md``, ``comparison.json`` and the charts into the folder of a comparison.

    Args:
        comparison: comparison whose runs are finished, failed or missing.
        published: key of ``PUBLISHED``; the values of the paper stand next to the measured ones.
        costs: by method, see :func:`mlickd.evaluation.cost.inference_cost`; in columns of their own.
        command: command that asked for the report, for the record.

    Returns:
        The text of ``comparison.md``, and a line for each failure.

    Raises:
        InputError: a result is damaged, runs have different protocols or data, or a file cannot be written.
    """
    models = comparison.models
    reports = _checked_reports(models)
    values = _values(models)
    differences = _differences(values)
    tables = [_metric_table(comparison, values, costs or {}, PUBLISHED.get(published))]
    if differences:
        header = [f"difference to {BASELINE}, in points", *_COLUMNS, "pairs"]
        rows = [
            [name, *(found.interval_text() if found else "" for found in of_method), of_method[0].count]
            for name, of_method in differences.items()
        ]
        tables.append(tabulate(rows, header, tablefmt="github", disable_numparse=True))
    failures: dict[str, list[str]] = {}
    for model in models:
        if model.failure and model.status != "done":
            failures.setdefault(model.failure, []).append(f"{model.method} (seed {model.seed})")
    lines = [f"{', '.join(names)}: {failure}" for failure, names in failures.items()]
    parts = [*tables, *(["Failed:\n\n" + "\n".join(f"- {line}" for line in lines)] if lines else [])]
    text = "\n\n".join([*parts, *_notes(comparison, reports, published)]) + "\n"
    write_whole_file(comparison.folder / "comparison.md", text, "give another --output", parents=True)
    _draw(comparison)
    content = {
        "data": {"train": comparison.train, "test": comparison.test},
        "unit": "percent",
        "seeds": list(comparison.seeds),
        "methods": {
            method.name: {"config": str(method.file), "stages": method.stages, "iterations": method.iterations}
            for method in comparison.methods
        },
        "protocol": reports and reports[0]["protocol"],
        "counts": reports and reports[0]["counts"],
        "confidence": CONFIDENCE,
        "summary": {
            name: dict(zip(TABLE_METRICS, map(_as_dict, _spreads(of_method)), strict=True))
            for name, of_method in values.items()
        },
        "differences": {
            name: dict(zip(TABLE_METRICS, map(_as_dict, of_method), strict=True))
            for name, of_method in differences.items()
        },
        "published": published and {"source": _PUBLISHED_SOURCE, "data": published, "values": PUBLISHED[published]},
        "costs": costs,
        "runs": [_run(model) for model in models],
        "failures": lines,
        "command": command,
    }
    write_json(comparison.folder / "comparison.json", content)
    return text, lines


def _checked_reports(models: Sequence[Model]) -> list[dict]:
    """The reports of the models that are done, which have to be comparable."""
    done = [model for model in models if model.status == "done"]
    for model in done:
        for key in ("protocol", "counts", "data"):
            if model.report.get(key) != done[0].report.get(key):
                raise InputError(
                    f"{model.report_path}: has another {key} than {done[0].report_path}; evaluate both in the same way"
                )
        missing = [metric for metric in TABLE_METRICS if model.report["metrics"].get(metric) is None]
        if missing:
            raise InputError(f"{model.report_path}: has no {missing[0]}; give a --test with positive images")
    return [model.report for model in done]


def _values(models: Sequence[Model]) -> dict[str, dict[int | None, list[float]]]:
    """Values of TABLE_METRICS by method and seed, of the models that are done."""
    values: dict[str, dict[int | None, list[float]]] = {}
    for model in models:
        of_method = values.setdefault(model.method, {})
        if model.status == "done":
            of_method[model.seed] = [model.report["metrics"][metric] for metric in TABLE_METRICS]
    return values


def _spreads(of_method: Mapping[int | None, Sequence[float]]) -> list[Spread | None]:
    return [spread([of_seed[i] for of_seed in of_method.values()]) for i in range(len(TABLE_METRICS))]


def _differences(values: Mapping[str, Mapping[int | None, Sequence[float]]]) -> dict[str, list[Spread]]:
    """Paired differences of each student to the baseline, over the seeds that both have."""
    baseline = values.get(BASELINE, {})
    differences = {}
    for name, of_method in values.items():
        pairs = {s: np.subtract(of_method[s], baseline[s]) for s in of_method if s in baseline}
        if pairs and name not in (BASELINE, "teacher"):
            differences[name] = _spreads(pairs)
    return differences


def _metric_table(
    comparison: Comparison,
    values: Mapping[str, Mapping[int | None, Sequence[float]]],
    costs: Mapping[str, Mapping[str, float]],
    published: Mapping[str, Sequence[float]] | None,
) -> str:
    header = ["", *_COLUMNS, "seeds", "iterations", "training, s"]
    header += ["million parameters", "ms an image"] if costs else []
    header += [f"{_PUBLISHED_SOURCE} {column}" for column in _COLUMNS] if published else []
    iterations = {method.name: " + ".join(map(str, method.iterations)) for method in comparison.methods}
    rows = []
    for name, of_method in values.items():
        models = [model for model in comparison.models if model.method == name]
        seeds = []
        for status in ("done", "failed", "not run"):
            numbers = ", ".join(
                str(model.seed) for model in models if model.status == status and model.seed is not None
            )
            seeds += [numbers if status == "done" else f"{status}: {numbers}"] if numbers else []
        seconds = [model.seconds for model in models if model.status == "done" and model.seconds is not None]
        row = [name, *(found.text() if found else "" for found in _spreads(of_method)), "; ".join(seeds)]
        row += [iterations.get(name, ""), f"{np.mean(seconds):.0f}" if seconds else ""]
        if costs:
            row += [f"{costs[name][key]:.{digits}f}" for key, digits in (("parameters", 2), ("milliseconds", 1))]
        rows.append(row + [f"{value:.1f}" for value in (published or {}).get(name, ())])
    return tabulate(rows, header, tablefmt="github", disable_numparse=True)


def _notes(comparison: Comparison, reports: Sequence[dict], published: str | None) -> list[str]:
    notes = [
        f"Trained on {comparison.train}, tested on {comparison.test}. Values are in percent: mean ± standard deviation "
        f"of the sample over the seeds. Differences are those of pairs of equal seed, with the {100 * CONFIDENCE:g}% "
        "confidence interval of their mean (Student's t with n - 1 degrees of freedom; not corrected for the number of "
        "comparisons). Runs that failed or were not run are left out. Seconds are means of the runs that were not "
        "interrupted."
    ]
    if not comparison.teacher_per_seed:
        teacher = comparison.teacher or f"that of seed {comparison.seeds[0]}"
        notes.append(f"All students have one teacher: {teacher}.")
    if reports:
        protocol, counts = reports[0]["protocol"], reports[0]["counts"]
        notes.append(
            f"Protocol: AP {protocol['ap_rule']}; {protocol['ties']}; predicted where {protocol['threshold_rule']}; "
            f"top-{protocol['topk']}: {protocol['topk_rule']}. {counts['images']} images, {counts['classes']} classes "
            "with a positive. CF1 is the harmonic mean of CP and CR."
        )
    if published:
        notes.append(f"The columns '{_PUBLISHED_SOURCE}' are the values of the paper on {published}, with its network.")
    return notes


def _run(model: Model) -> dict:
    return {
        "method": model.method,
        "seed": model.seed,
        "status": model.status,
        "folder": str(model.folder),
        "seconds": model.seconds,
        "metrics": model.report and model.report["metrics"],
        "per_class": model.report and {name: values["AP"] for name, values in model.report["per_class"].items()},
        "versions": model.report and model.report.get("versions"),
        "failure": model.failure,
        "jobs": {job.name: {**job.record(), "command": shlex.join(["python", *job.command])} for job in model.jobs},
    }


def _as_dict(found: Spread | None) -> dict | None:
    return found and asdict(found)


def _draw(comparison: Comparison) -> None:
    """Draw the gain of each class, precision over recall, and the training curves of the students that are done."""
    students: dict[str, list[Model]] = {}
    for model in comparison.models:
        if model.status == "done" and model.method != "teacher":
            students.setdefault(model.method, []).append(model)
    if not students:
        return
    baseline = {model.seed: _class_precisions(model) for model in students.get(BASELINE, ())}
    gains = {
        name: np.stack([_class_precisions(m) - baseline[m.seed] for m in models if m.seed in baseline])
        for name, models in students.items()
        if name != BASELINE and any(m.seed in baseline for m in models)
    }
    folder = comparison.folder
    if gains:
        names = list(students[BASELINE][0].report["per_class"])
        draw_class_gains(gains, names, folder / "classes.png", BASELINE)
    curves = {name: [_precision_recall(model) for model in models] for name, models in students.items()}
    draw_precision_recall(curves, folder / "precision_recall.png")
    runs = {f"{name}, seed {m[0].seed}": [job.folder for job in m[0].jobs] for name, m in students.items()}
    draw_training_curves(runs, folder / "curves.png")


def _class_precisions(model: Model) -> np.ndarray:
    """AP of each class; NaN for a class without a positive."""
    return np.array([values["AP"] for values in model.report["per_class"].values()], dtype=float)


def _precision_recall(model: Model) -> tuple[np.ndarray, np.ndarray]:
    scores = read_scores(str(model.report_path.with_name(SCORES_FILE)))
    return micro_precision_recall(scores.scores, scores.targets)
