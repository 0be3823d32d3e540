"""What a comparison leaves: the table in three forms, every value with how it was made, and the charts."""

from __future__ import annotations

import csv
import io
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mlickd.errors import InputError
from mlickd.evaluation.comparison import CONFIDENCE
from mlickd.evaluation.comparison_table import (
    ComparedMethod,
    Table,
    csv_table,
    difference_table,
    markdown,
    metric_table,
)
from mlickd.evaluation.published import PUBLISHED, PUBLISHED_SOURCE
from mlickd.evaluation.ranking import micro_precision_recall
from mlickd.evaluation.summary import METRICS
from mlickd.files import write_json, write_whole_file
from mlickd.visualization import draw_training_curves
from mlickd.visualization.comparison_page import write_comparison_page
from mlickd.visualization.comparison_plots import draw_class_gains, draw_precision_recall

from .comparison import Comparison, Outcome
from .methods import BASELINE

__all__ = ["write_comparison_report"]

logger = logging.getLogger(__name__)


def write_comparison_report(
    comparison: Comparison, *, published: str | None = None, command: str = ""
) -> tuple[str, list[str]]:
    """Write ``comparison.{md,csv,json,html}`` into the folder of a comparison, and of the runs that there are
    ``classes.png``, ``precision_recall.png`` and ``curves.png``.

    Args:
        comparison: run or not; what has failed or is missing is marked.
        published: a key of ``PUBLISHED``, whose values go beside the measured ones.
        command: that asked for the report, for the record.

    Returns:
        The text of ``comparison.md``, and why runs have failed, a line each.

    Raises:
        InputError: a result is damaged, runs are of different protocols or data, or a file cannot be written.
    """
    students, teachers = comparison.students(), comparison.teachers()
    report = _check_one_protocol([*students, *teachers])
    methods = [_method(comparison, method.name, students) for method in comparison.methods]
    reference = next((method for method in methods if method.name == BASELINE), None)
    rows = [*([_teacher(teachers)] if teachers else []), *methods]
    others = PUBLISHED[published] if published else None
    tables = {"All methods": metric_table(rows, others)}
    if reference is not None and len(methods) > 1:
        tables[f"Difference to {BASELINE}, in points"] = difference_table(methods, reference)
    failures = _failures([*teachers, *students])
    notes = _notes(comparison, report, published, [*teachers, *students])
    if changed := [f"{outcome.name} (seed {outcome.seed})" for outcome in [*teachers, *students] if outcome.changed]:
        notes.append(f"Made from something that has changed since, and run again next time: {', '.join(changed)}.")
    text = _markdown(tables, failures, notes)

    comparison.folder.mkdir(parents=True, exist_ok=True)
    remedy = "give another --output"
    write_whole_file(comparison.folder / "comparison.md", text, remedy)
    table = _as_csv(csv_table(rows, reference, others))
    write_whole_file(comparison.folder / "comparison.csv", table, remedy)
    charts = _draw(comparison, students)
    commands = {step.key: shlex.join(["python", *step.command]) for step in comparison.steps()}
    write_json(
        comparison.folder / "comparison.json",
        {
            "data": {"train": comparison.train, "test": comparison.test},
            "unit": "percent",
            "seeds": list(comparison.seeds),
            "methods": {
                method.name: {"config": str(method.file), "stages": method.stages, "iterations": method.iterations}
                for method in comparison.methods
            },
            "protocol": report and report["protocol"],
            "counts": report and report["counts"],
            "confidence": CONFIDENCE,
            "summary": _summary(rows, reference),
            "published": others
            and {"source": PUBLISHED_SOURCE, "data": published, "metrics": METRICS, "values": others},
            "runs": [_run(outcome) for outcome in [*teachers, *students]],
            "failures": failures,
            "command": command,
            "commands": commands,
        },
    )
    write_comparison_page(
        comparison.folder / "comparison.html",
        title=f"Comparison on {comparison.test}",
        tables=tables,
        notes=notes,
        failures=failures,
        charts=charts,
        runs=_runs_table([*teachers, *students]),
        commands=list(commands.values()),
        machine="; ".join(sorted({ran["machine"] for ran in _steps_that_count([*teachers, *students])})),
    )
    return text, failures


def _failures(outcomes: Sequence[Outcome]) -> list[str]:
    """A line for each failure, with all runs that are not there for it."""
    runs: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.failure:
            runs.setdefault(outcome.failure, []).append(f"{outcome.name} (seed {outcome.seed})")
    return [f"{', '.join(names)}: {failure}" for failure, names in runs.items()]


def _check_one_protocol(outcomes: Sequence[Outcome]) -> dict | None:
    """The first report of those that count; None without any."""
    done = [outcome for outcome in outcomes if outcome.status == "done"]
    for outcome in done[1:]:
        for key, what in (
            ("protocol", "another protocol"),
            ("counts", "other images"),
            ("dataset", "another dataset"),
            ("data", "other images, labels or classes"),
        ):
            if outcome.report.get(key) != done[0].report.get(key):
                raise InputError(
                    f"{outcome.report_path}: {what} than {done[0].report_path}; evaluate both in the same way"
                )
    return done[0].report if done else None


def _method(comparison: Comparison, name: str, students: Sequence[Outcome]) -> ComparedMethod:
    outcomes = [outcome for outcome in students if outcome.name == name]
    method = next(method for method in comparison.methods if method.name == name)
    return ComparedMethod(
        name,
        {outcome.seed: outcome.report["metrics"] for outcome in outcomes if outcome.status == "done"},
        **_absent(outcomes),
        iterations=" + ".join(map(str, method.iterations)),
        seconds=_seconds(outcomes),
    )


def _teacher(teachers: Sequence[Outcome]) -> ComparedMethod:
    return ComparedMethod(
        "teacher",
        {outcome.seed: outcome.report["metrics"] for outcome in teachers if outcome.status == "done"},
        **_absent(teachers),
        seconds=_seconds(teachers),
        paired=False,
    )


def _absent(outcomes: Sequence[Outcome]) -> dict[str, list[int]]:
    """The seeds that do not count, by why."""
    words = {"failed": "failed", "changed": "changed", "missing": "not run"}
    return {why: [outcome.seed for outcome in outcomes if outcome.status == word] for why, word in words.items()}


def _seconds(outcomes: Sequence[Outcome]) -> list[float]:
    """Of the trainings that were done in one go."""
    return [
        sum(outcome.seconds.values())
        for outcome in outcomes
        if outcome.status == "done" and outcome.steps and len(outcome.seconds) == len(outcome.steps)
    ]


def _steps_that_count(outcomes: Sequence[Outcome]) -> list[Mapping[str, Any]]:
    """How the steps of the runs that count were run, where that is known."""
    return [ran for outcome in outcomes if outcome.status == "done" for ran in outcome.ran.values()]


def _together(at_once: int, threads: int) -> str:
    """How commands were run, in words; 0 threads are those of the environment."""
    each = f" with {threads} thread{'s' if threads > 1 else ''} each" if threads else ""
    return f"up to {at_once} at once{each}" if at_once > 1 else "one at a time"


def _notes(
    comparison: Comparison, report: dict | None, published: str | None, outcomes: Sequence[Outcome]
) -> list[str]:
    notes = [
        f"Trained on {comparison.train}, tested on {comparison.test}. Percent; over several seeds mean ± standard "
        "deviation of the sample. A difference is that of pairs of equal seed, in points, and in brackets the "
        f"{100 * CONFIDENCE:g}% confidence interval of its mean over the pairs (Student's t with n - 1 degrees of "
        "freedom; not corrected for the number of comparisons). What has failed, has changed or was not run is in no "
        "mean."
    ]
    if comparison.teacher:
        notes.append(f"All students have one teacher: {comparison.teacher}.")
    elif not comparison.teacher_per_seed:
        notes.append(f"All students have one teacher, of seed {comparison.seeds[0]}; its seconds are its own.")
    if report:
        protocol, counts = report["protocol"], report["counts"]
        notes.append(
            f"Protocol: AP {protocol['ap_rule']}; {protocol['ties']}; predicted where {protocol['threshold_rule']}; "
            f"top-{protocol['topk']}: {protocol['topk_rule']}. {counts['images']} images, {counts['classes']} classes "
            "with a positive. CF1 is the harmonic mean of CP and CR."
        )
    seconds = "Seconds are the mean of the runs that were done in one go"
    pairs = {(ran["at_once"], ran["threads"]) for ran in _steps_that_count(outcomes)}
    how = " or ".join(dict.fromkeys(_together(*pair) for pair in sorted(pairs)))
    notes.append(f"{seconds}{how and ', ' + how}.")
    if published:
        notes.append(
            f"The columns {PUBLISHED_SOURCE} are what the paper prints for {published}: another dataset and another "
            "network than those measured here, unless these are the paper's."
        )
    return notes


def _markdown(tables: Mapping[str, Table], failures: Sequence[str], notes: Sequence[str]) -> str:
    parts = [f"**{title}**\n\n{markdown(table)}" for title, table in tables.items()]
    if failures:
        parts.append("Failed:\n\n" + "\n".join(f"- {failure}" for failure in failures))
    return "\n\n".join([*parts, *notes]) + "\n"


def _as_csv(table: Table) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([table.headers, *table.rows])
    return text.getvalue()


def _summary(rows: Sequence[ComparedMethod], reference: ComparedMethod | None) -> dict:
    summary = {}
    for method in rows:
        summary[method.name] = {}
        for metric in METRICS:
            own = method.spread(metric)
            gain = method.difference(reference, metric)
            summary[method.name][metric] = {**(asdict(own) if own else {}), "difference": gain and asdict(gain)}
    return summary


def _run(outcome: Outcome) -> dict:
    return {
        "method": outcome.name,
        "seed": outcome.seed,
        "status": outcome.status,
        "folder": str(outcome.folder),
        "seconds": dict(outcome.seconds),
        "metrics": outcome.report and outcome.report["metrics"],
        "per_class": outcome.report and {name: of["AP"] for name, of in outcome.report["per_class"].items()},
        "failure": outcome.failure,
        "changed": outcome.changed,
        "ran": dict(outcome.ran),
        "versions": outcome.report and outcome.report.get("versions"),
        "logs": [str(step.log) for step in outcome.steps],
    }


def _runs_table(outcomes: Sequence[Outcome]) -> Table:
    rows = []
    for outcome in outcomes:
        values = [f"{outcome.report['metrics'][metric]:.2f}" if outcome.report else "" for metric in METRICS]
        seconds = f"{sum(outcome.seconds.values()):.0f}" if outcome.seconds else ""
        seed = "" if outcome.seed is None else str(outcome.seed)
        rows.append([outcome.name, seed, outcome.status, *values, seconds, str(outcome.folder)])
    titles = ["", "seed", "", *METRICS, "training, s", "folder"]
    return Table([("", title) for title in titles], rows)


def _draw(comparison: Comparison, students: Sequence[Outcome]) -> dict[str, Path]:
    """Draw what there are runs for; the charts by title."""
    done = [outcome for outcome in students if outcome.status == "done"]
    charts = {}
    if gains := _class_gains(done):
        charts[f"AP of each class, less that of {BASELINE}"] = path = comparison.folder / "classes.png"
        draw_class_gains(gains, list(done[0].report["per_class"]), path, BASELINE)
    by_method = {name: [run for run in done if run.name == name] for name in dict.fromkeys(run.name for run in done)}
    if by_method:
        charts["Precision and recall"] = path = comparison.folder / "precision_recall.png"
        draw_precision_recall({name: [_curve(run) for run in runs] for name, runs in by_method.items()}, path)
        charts["Training"] = path = comparison.folder / "curves.png"
        first = [runs[0] for runs in by_method.values()]
        draw_training_curves({f"{run.name}, seed {run.seed}": run.folders for run in first}, path)
    logger.info("In %s: %s", comparison.folder, ", ".join(path.name for path in charts.values()) or "no chart yet")
    return charts


def _class_gains(done: Sequence[Outcome]) -> dict[str, np.ndarray]:
    """Of each method (S, C) AP less that of the baseline, for the seeds of both; NaN without a positive."""
    values = {
        (outcome.name, outcome.seed): np.array(
            [np.nan if of["AP"] is None else of["AP"] for of in outcome.report["per_class"].values()]
        )
        for outcome in done
    }
    pairs: dict[str, list[np.ndarray]] = {}
    for (name, seed), precisions in values.items():
        if name != BASELINE and (BASELINE, seed) in values:
            pairs.setdefault(name, []).append(precisions - values[BASELINE, seed])
    return {name: np.stack(differences) for name, differences in pairs.items()}


def _curve(outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(outcome.scores) as arrays:
            return micro_precision_recall(arrays["scores"], arrays["targets"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{outcome.scores}: cannot be read ({error}); evaluate the run again") from error
