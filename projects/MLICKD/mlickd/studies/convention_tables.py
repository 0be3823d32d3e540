"""The report of ``tools/evaluate.py`` as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from .conventions import IMAGES, Convention

__all__ = ["report_as_text"]


def report_as_text(report: Mapping[str, Any]) -> str:
    """Tables for a terminal, from what :func:`mlickd.studies.convention_report.compare_scores` returns."""
    parts = [_table_of_conventions(report), _notes(report)]
    if "bootstrap" in report:
        parts.append(_table_of_intervals(report["bootstrap"]))
    return "\n\n".join(parts)


def _table_of_conventions(report: Mapping[str, Any]) -> str:
    columns = [(run, images) for run in report["runs"] for images in report["runs"][run]["values"]]
    several = any(images != "all" for _, images in columns)
    headers = ["%", *(f"{run}\n{IMAGES[images]}" if several else run for run, images in columns)]
    rows, group = [], None
    for convention in (Convention(key, **words) for key, words in report["conventions"].items()):
        if convention.group != group:
            group = convention.group
            rows.append([group, *[""] * len(columns)])
        cells = (report["runs"][run]["values"][images].get(convention.key) for run, images in columns)
        rows.append([f"  {convention.name}", *("" if cell is None else f"{cell:.2f}" for cell in cells)])
    return _table(rows, headers)


def _notes(report: Mapping[str, Any]) -> str:
    lines = [f"{report['protocol']['ties']};", f"{report['protocol']['classes']}."]
    for name, run in report["runs"].items():
        counts = [f"{run['images']} images", f"{run['images_without_positives']} of them without a label"]
        if run["images_ignored"]:
            counts.append(f"{run['images_ignored']} more with no label known left out")
        lines.append(f"{name}: {', '.join(counts)}; {run['classes']} classes")
        if run["classes_without_positives"]:
            lines.append(f"  classes without a positive: {', '.join(run['classes_without_positives'])}")
        tuned = run["class_thresholds"]
        if tuned:
            same = tuned["sha256"] == run["data_sha256"]
            too_good = ", these very images: what they give here is too good" if same else ""
            lines.append(f"  thresholds of each class: tuned on {tuned['name']} ({tuned['images']} images){too_good}")
        if run["data_sha256"]:
            lines.append(f"  images, labels and classes: sha256 {run['data_sha256']}")
        if not run["images_of_first"]:
            lines.append("  on other images, labels or classes than the first: these numbers do not compare")
    return "\n".join(lines)


def _table_of_intervals(bootstrap: Mapping[str, Any]) -> str:
    columns = {name: ("", of_run) for name, of_run in bootstrap["runs"].items()}
    for name, difference in bootstrap["differences"].items():
        columns[f"{name}\n- {bootstrap['minus']}"] = ("+", difference)
    keys = next(iter(bootstrap["runs"].values()))
    headers = [f"{100 * bootstrap['confidence']:.0f} % interval", *columns]
    rows = [[key, *(_cell(of_run[key], sign) for sign, of_run in columns.values())] for key in keys]
    undefined = max(value["undefined_resamples"] for of_run in bootstrap["runs"].values() for value in of_run.values())
    notes = [
        f"Percentiles of {bootstrap['resamples']} resamples of the images, seed {bootstrap['seed']}; mAP by the rule "
        f"'{bootstrap['ap']}'. A class without a positive in a resample is left out of its class means."
    ]
    if undefined:
        notes.append(f"In {undefined} resamples no positive is left; they are left out.")
    return "\n".join([_table(rows, headers), "", *notes])


def _cell(value: Mapping[str, float], sign: str) -> str:
    return f"{value['value']:{sign}.2f} [{value['low']:{sign}.2f}, {value['high']:{sign}.2f}]"


def _table(rows: list[list[str]], headers: list[str]) -> str:
    alignment = ("left", *["right"] * (len(headers) - 1))
    return tabulate(rows, headers, disable_numparse=True, colalign=alignment, preserve_whitespace=True)
