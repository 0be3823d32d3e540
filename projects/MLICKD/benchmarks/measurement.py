"""Timing of alternating calls, comparison of the measurements, and output of the results."""

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tabulate import tabulate
from tqdm import tqdm

from mlickd.environment import machine_line
from mlickd.files import write_json


@dataclass(frozen=True)
class BenchmarkResult:
    """Measurements of several candidates, taken in turn.

    Attributes:
        title: measured quantity, and network or data.
        unit: unit of the values.
        values: values by candidate. The i-th values of all candidates are from the same repetition.
    """

    title: str
    unit: str
    values: Mapping[str, Sequence[float]]

    def ratio(self, name: str) -> float:
        """Return the ratio of a candidate to the first candidate; NaN if a value of the first is 0.

        The ratio is the median over the repetitions, because the state of the machine changes between them.
        """
        first = next(iter(self.values.values()))
        if 0 in first:
            return math.nan
        return statistics.median(a / b for a, b in zip(self.values[name], first, strict=True))


def time_interleaved(
    title: str,
    calls: Mapping[str, Callable[[], object]],
    repetitions: int,
    *,
    warm_up: int = 1,
    unit: str = "s",
    scale: float = 1.0,
) -> BenchmarkResult:
    """Time each call once per repetition, so that a slow phase of the machine affects all calls.

    Args:
        title: title of the comparison.
        calls: calls by name.
        repetitions: number of timed repetitions.
        warm_up: number of repetitions before the timed ones.
        unit, scale: unit of the values, and the factor from seconds to this unit.
    """
    values = {name: [] for name in calls}
    gc.collect()
    gc.freeze()  # the collections below skip existing objects
    for number in tqdm(range(warm_up + repetitions), desc=title, unit="repetition", leave=False, disable=None):
        for name, call in calls.items():
            gc.collect()  # keeps the garbage of one call out of the time of the next
            start = time.perf_counter()
            call()
            seconds = time.perf_counter() - start
            if number >= warm_up:
                values[name].append(scale * seconds)
    gc.unfreeze()
    return BenchmarkResult(title, unit, values)


def results_table(results: Mapping[str, Sequence[BenchmarkResult]], table_format: str = "simple") -> str:
    """Return a table, in a format of tabulate, of the comparisons of each benchmark."""
    lines = []
    for benchmark, comparisons in results.items():
        for comparison in comparisons:
            for name, values in comparison.values.items():
                median = f"{_number(statistics.median(values))} {comparison.unit}"
                span = f"{_number(min(values))} to {_number(max(values))}" if len(values) > 1 else ""
                ratio = _number(comparison.ratio(name))
                lines.append((benchmark, f"{comparison.title}: {name}", median, span, ratio))
    headers = ("benchmark", "candidate", "median", "lowest to highest", "ratio")
    return tabulate(lines, headers, tablefmt=table_format, disable_numparse=True)


def write_results(results: Mapping[str, Sequence[BenchmarkResult]], command: str, folder: Path, name: str) -> None:
    """Write ``<name>.json`` with all values and ``<name>.md`` with the table. Both name the machine and the command."""
    threads = torch.get_num_threads()
    content = {key: [asdict(comparison) for comparison in comparisons] for key, comparisons in results.items()}
    machine = {"machine": machine_line(), "threads": threads, "command": command}
    write_json(folder / f"{name}.json", machine | {"benchmarks": content})
    text = f"{machine_line()}; threads: {threads}.\n\n    {command}\n\n{results_table(results, 'pipe')}\n"
    (folder / f"{name}.md").write_text(text, encoding="utf-8")


def _number(value: float) -> str:
    """Format a number with three significant digits, or NaN as a dash."""
    if math.isnan(value):
        return "-"
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{max(0, digits)}f}"
