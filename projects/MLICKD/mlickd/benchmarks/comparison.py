"""Figures that were measured beside each other, what they are of the first one, and what they should be."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Comparison", "Row", "Target"]


@dataclass(frozen=True)
class Row:
    """One of the things that are compared.

    Attributes:
        name: for the reader.
        values: one of each repetition, in the unit of the comparison. Value i of all rows was measured in the same
            round.
        details: further figures, with their units, by name.
    """

    name: str
    values: Sequence[float]
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Of all repetitions."""
        return statistics.median(self.values)

    def ratio(self, other: Row) -> float:
        """The median over the rounds of this row's value divided by that of another; NaN where one of those is 0.

        Within a round both have the machine in the same state, which over rounds it need not stay in.
        """
        if 0 in other.values:
            return math.nan
        return statistics.median(a / b for a, b in zip(self.values, other.values, strict=True))


@dataclass(frozen=True)
class Target:
    """What the ratio of two rows should be.

    Attributes:
        row, other: names of the rows whose ratio it is.
        limit: the ratio.
        at_least: the ratio should be at least the limit; else at most.
    """

    row: str
    other: str
    limit: float
    at_least: bool = False

    def met(self, ratio: float) -> bool:
        """Whether a measured ratio is as it should be; NaN is not."""
        return ratio >= self.limit if self.at_least else ratio <= self.limit


@dataclass(frozen=True)
class Comparison:
    """Rows that were measured side by side. Ratios are to the first.

    Attributes:
        title: what was measured, of which network or data, at which size.
        unit: of the values.
        rows: at least one, each with as many values.
        targets: between rows.
    """

    title: str
    unit: str
    rows: Sequence[Row]
    targets: Sequence[Target] = ()

    def __post_init__(self) -> None:
        if not self.rows or len({len(row.values) for row in self.rows}) != 1 or not self.rows[0].values:
            raise ValueError(f"{self.title}: every row needs as many values, at least one")

    def __getitem__(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def results(self) -> list[tuple[Target, float, bool]]:
        """Each target with the ratio that was measured, and whether that is as it should be."""
        ratios = [self[target.row].ratio(self[target.other]) for target in self.targets]
        return [(target, ratio, target.met(ratio)) for target, ratio in zip(self.targets, ratios, strict=True)]

    def as_json(self) -> dict:
        """Everything, with what follows from it."""
        rows = [
            {
                "name": row.name,
                "values": list(row.values),
                "median": row.median,
                "lowest": min(row.values),
                "highest": max(row.values),
                "ratio": row.ratio(self.rows[0]),
                "details": dict(row.details),
            }
            for row in self.rows
        ]
        targets = [
            {
                "row": target.row,
                "other": target.other,
                "at_least" if target.at_least else "at_most": target.limit,
                "ratio": ratio,
                "met": met,
            }
            for target, ratio, met in self.results()
        ]
        return {"title": self.title, "unit": self.unit, "rows": rows, "targets": targets}
