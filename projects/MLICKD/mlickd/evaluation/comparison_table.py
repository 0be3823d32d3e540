"""The table of the paper for any methods: all labels above the threshold, the best three, and what a method gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from tabulate import tabulate

from .comparison import CONFIDENCE, PairedDifference, Spread, paired_difference, spread
from .published import PUBLISHED_SOURCE
from .summary import METRICS

__all__ = ["ComparedMethod", "Table", "csv_table", "difference_table", "markdown", "metric_table"]

# In the order of METRICS.
_COLUMNS = (("All", "mAP"), ("All", "CF1"), ("All", "OF1"), ("top-3", "CF1"), ("top-3", "OF1"))


@dataclass(frozen=True)
class ComparedMethod:
    """What the runs of one method gave.

    Attributes:
        name: of the method.
        values: metrics in percent, by seed, of the runs that have ended well.
        failed, changed, missing: seeds of the runs that have failed, of those that are of something else by now, and
            of those that have not been made.
        iterations: of one run, in words.
        seconds: of the trainings of one run, for each run of which they are known.
        paired: whether its runs make pairs with those of other methods. The teacher's do not.
    """

    name: str
    values: Mapping[int | None, Mapping[str, float]]
    failed: Sequence[int] = ()
    changed: Sequence[int] = ()
    missing: Sequence[int] = ()
    iterations: str = ""
    seconds: Sequence[float] = ()
    paired: bool = True

    def spread(self, metric: str) -> Spread | None:
        """Over its seeds; None without a run."""
        return spread([values[metric] for values in self.values.values()])

    def difference(self, reference: ComparedMethod | None, metric: str) -> PairedDifference | None:
        """Less the reference, over the seeds that both have; None without such a pair, and of the reference itself."""
        if reference is None or reference is self or not self.paired:
            return None
        seeds = [seed for seed in self.values if seed in reference.values]
        return paired_difference(
            [self.values[seed][metric] for seed in seeds], [reference.values[seed][metric] for seed in seeds]
        )


@dataclass(frozen=True)
class Table:
    """Text in rows and columns.

    Attributes:
        columns: the group that a column is in, and its title; either may be empty.
        rows: of cells; the first cell of each is its name.
    """

    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[str]]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Name and width of the groups, in order."""
        return [(name, len(list(group))) for name, group in groupby(group for group, _ in self.columns)]

    @property
    def headers(self) -> list[str]:
        """A title for each column that says it all."""
        return [" ".join(filter(None, column)) for column in self.columns]


def metric_table(methods: Sequence[ComparedMethod], published: Mapping[str, Sequence[float]] | None = None) -> Table:
    """A row for each method: mean ± standard deviation over the seeds, or why there is none.

    Args:
        methods: in the order of the rows.
        published: values of others for methods of the same name, in columns of their own.
    """
    rows = []
    for method in methods:
        cells = [_spread_text(method.spread(metric)) or _absence(method) for metric in METRICS]
        seconds = f"{np.mean(method.seconds):.0f}" if len(method.seconds) else ""
        row = [method.name, *cells, _seeds(method), method.iterations, seconds]
        if published is not None:
            row += [f"{value:.1f}" for value in published.get(method.name, ())] or [""] * len(METRICS)
        rows.append(row)
    columns = [("", ""), *_COLUMNS, ("", "seeds"), ("", "iterations"), ("", "training, s")]
    if published is not None:
        columns += [(PUBLISHED_SOURCE, " ".join(column)) for column in _COLUMNS]
    return Table(columns, rows)


def difference_table(methods: Sequence[ComparedMethod], reference: ComparedMethod) -> Table:
    """A row for each method but the reference: its mean gain in points with the confidence interval of the pairs."""
    rows = []
    for method in methods:
        if method.paired and method is not reference:
            found = [method.difference(reference, metric) for metric in METRICS]
            pairs = str(found[0].count) if found[0] else "0"
            rows.append([method.name, *(_difference_text(difference) for difference in found), pairs])
    return Table([("", ""), *_COLUMNS, ("", "pairs")], rows)


def csv_table(
    methods: Sequence[ComparedMethod], reference: ComparedMethod | None, published: Mapping[str, Sequence[float]] | None
) -> Table:
    """Both tables in figures, a column for each; those that there are not are empty."""
    interval = f"{100 * CONFIDENCE:g}%"
    columns = [("", title) for title in ("method", "seeds", "failed seeds", "changed seeds", "missing seeds")]
    what = ("mean", "deviation", "difference", f"low {interval}", f"high {interval}")
    columns += [(metric, value) for metric in METRICS for value in what]
    columns += [(PUBLISHED_SOURCE, metric) for metric in METRICS] if published is not None else []
    rows = []
    for method in methods:
        seeds = (_known(method), method.failed, method.changed, method.missing)
        row = [method.name, *(" ".join(map(str, some)) for some in seeds)]
        for metric in METRICS:
            own = method.spread(metric)
            gain = method.difference(reference, metric)
            row += [_figure(own and own.mean), _figure(own and own.deviation)]
            row += [_figure(gain and gain.mean), _figure(gain and gain.low), _figure(gain and gain.high)]
        if published is not None:
            row += [str(value) for value in published.get(method.name, ())] or [""] * len(METRICS)
        rows.append(row)
    return Table(columns, rows)


def markdown(table: Table) -> str:
    """The table for a README; a line break or a bar in a name does no harm."""
    clean = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in table.rows]
    return tabulate(clean, headers=table.headers, tablefmt="github", disable_numparse=True)


def _spread_text(found: Spread | None) -> str:
    if found is None:
        return ""
    return f"{found.mean:.1f}" if found.deviation is None else f"{found.mean:.1f} ± {found.deviation:.1f}"


def _difference_text(found: PairedDifference | None) -> str:
    if found is None:
        return "no pair"
    return f"{found.mean:+.1f}" if found.low is None else f"{found.mean:+.1f} [{found.low:+.1f}, {found.high:+.1f}]"


def _absence(method: ComparedMethod) -> str:
    if method.failed:
        return "failed"
    return "changed" if method.changed else "not run"


def _seeds(method: ComparedMethod) -> str:
    parts = [", ".join(map(str, _known(method)))]
    for word, seeds in (("failed", method.failed), ("changed", method.changed), ("not run", method.missing)):
        if seeds:
            parts.append(f"{word}: {', '.join(map(str, seeds))}")
    return "; ".join(filter(None, parts))


def _known(method: ComparedMethod) -> list[int]:
    return [seed for seed in method.values if seed is not None]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
