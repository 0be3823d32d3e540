"""What a benchmark has found: for the terminal, as JSON and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from mlickd.errors import InputError
from mlickd.files import write_json
from mlickd.runs import machine_line

from .comparison import Comparison, Row

__all__ = ["Report", "number", "table", "write_reports"]

_HEADERS = ("benchmark", "what", "median", "lowest to highest", "ratio", "target", "details")


@dataclass(frozen=True)
class Report:
    """A finished benchmark.

    Attributes:
        benchmark: its name.
        command: repeats it.
        threads: of PyTorch.
        comparisons: what was measured.
        seconds: that all of it took.
    """

    benchmark: str
    command: str
    threads: int
    comparisons: Sequence[Comparison]
    seconds: float

    def as_json(self) -> dict:
        """Everything, with the machine."""
        return {
            "benchmark": self.benchmark,
            "machine": machine_line(),
            "threads": self.threads,
            "command": self.command,
            "seconds": self.seconds,
            "comparisons": [comparison.as_json() for comparison in self.comparisons],
        }


def table(reports: Sequence[Report], table_format: str = "simple") -> str:
    """One table of all reports, a row for each thing that was compared.

    Args:
        reports: in order.
        table_format: of tabulate.
    """
    rows = [
        (report.benchmark, *row) for report in reports for comparison in report.comparisons for row in _rows(comparison)
    ]
    return tabulate(rows, _HEADERS, tablefmt=table_format, disable_numparse=True)


def write_reports(reports: Sequence[Report], folder: Path, name: str) -> None:
    """Write ``<name>.json`` and ``<name>.md``: the machine, the commands and the table.

    Args:
        reports: at least one.
        folder: created where it is missing.
        name: of the files.

    Raises:
        InputError: they cannot be written.
    """
    content = [report.as_json() for report in reports]
    write_json(folder / f"{name}.json", content[0] if len(content) == 1 else {"benchmarks": content})
    commands = "\n".join(f"    {report.command}" for report in reports)
    threads = ", ".join(str(count) for count in sorted({report.threads for report in reports}))
    text = f"{machine_line()}; threads: {threads}.\n\n{commands}\n\n{table(reports, 'pipe')}\n"
    try:
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder / name}.md: cannot be written ({error.strerror}); give another --output") from error


def number(value: float) -> str:
    """Three significant digits, with commas between thousands; NaN is a figure that is missing."""
    if math.isnan(value):
        return "-"
    if value == 0:
        return "0"
    digits = max(0, 2 - int(f"{abs(value):e}".partition("e")[2]))
    return f"{value:,.{digits}f}"


def _rows(comparison: Comparison) -> list[tuple[str, ...]]:
    reached = {row.name: [] for row in comparison.rows}
    for target, ratio, met in comparison.results():
        limit = f"{'at least' if target.at_least else 'at most'} {target.limit:g}"
        # The ratio to the first row stands beside it.
        of = f" of {target.other}: {number(ratio)}" if target.other != comparison.rows[0].name else ""
        reached[target.row].append(f"{limit}{of}, {'met' if met else 'missed'}")
    return [_row(comparison, row, reached[row.name]) for row in comparison.rows]


def _row(comparison: Comparison, row: Row, targets: list[str]) -> tuple[str, ...]:
    return (
        f"{comparison.title}: {row.name}",
        f"{number(row.median)} {comparison.unit}",
        f"{number(min(row.values))} to {number(max(row.values))}" if len(row.values) > 1 else "",
        number(row.ratio(comparison.rows[0])),
        "; ".join(targets),
        ", ".join(f"{name} {value}" for name, value in row.details.items()),
    )
