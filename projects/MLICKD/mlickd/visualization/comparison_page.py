"""A comparison of methods as one file for a browser, charts and all."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlickd.errors import InputError
from mlickd.evaluation.comparison_table import Table

from .gallery import page_template

__all__ = ["write_comparison_page"]


def write_comparison_page(
    path: str | Path,
    *,
    title: str,
    tables: Mapping[str, Table],
    notes: Sequence[str],
    failures: Sequence[str],
    charts: Mapping[str, str | Path],
    runs: Table,
    commands: Sequence[str],
    machine: str,
) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        title: of the page.
        tables: by their titles.
        notes: what the figures mean, a paragraph each.
        failures: a line each.
        charts: PNG files, which go into the page, by their titles.
        runs: a row for each run.
        commands: that made the runs, as typed into a shell.
        machine: that they were run on.

    Raises:
        InputError: the file cannot be written.
    """
    page = page_template("comparison.html").render(
        title=title,
        tables=tables,
        notes=notes,
        failures=failures,
        charts={name: base64.b64encode(Path(chart).read_bytes()).decode() for name, chart in charts.items()},
        runs=runs,
        commands=commands,
        machine=machine,
    )
    try:
        Path(path).write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); give another folder") from error
