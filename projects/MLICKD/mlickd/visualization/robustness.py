"""Plots of paired runs: mAP against the strength of each kind of damage, and bars of the parts of a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mlickd.evaluation.comparison import spread

from .charts import STYLES, plain_text, save_figure

__all__ = ["draw_breakdowns", "draw_robustness"]

NAMES = ("baseline", "distilled")
# Of each pair, the metrics of baseline and distilled student, as fractions.
Pairs = Sequence[Sequence[Mapping[str, float]]]


def draw_robustness(conditions: Mapping[str, Pairs], path: str | Path) -> None:
    """A panel for each kind of damage: mAP over the strength, 0 is clean; mean and standard deviation of the pairs.

    Args:
        conditions: ``clean``, and ``NAME:STRENGTH`` for each damage.
        path: of the PNG.

    Raises:
        InputError: ``path`` cannot be written.
    """
    panels: dict[str, list[int]] = {}
    for condition in conditions:
        name, colon, strength = condition.partition(":")
        if colon:
            panels.setdefault(name, []).append(int(strength))
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(max(3.0 * columns, 6), 0.6 + 2.7 * rows), dpi=120, layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, (name, strengths) in zip(grid.flat, panels.items(), strict=False):
        keys = ["clean", *(f"{name}:{strength}" for strength in sorted(strengths))]
        places = [0, *sorted(strengths)]
        for role, (color, dashes) in zip((0, 1), STYLES, strict=False):
            means, spreads = zip(*(_mean_and_spread(conditions[key], role) for key in keys), strict=True)
            axes.errorbar(places, means, spreads, color=color, linestyle=dashes, marker="o", markersize=4, capsize=3)
        axes.set_title(plain_text(name), loc="left")
        axes.set_xticks(places, ["clean", *map(str, places[1:])])
        _plain(axes)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("mAP (%)")
    handles = [
        Line2D([], [], color=color, linestyle=dashes, marker="o", markersize=4, label=name)
        for name, (color, dashes) in zip(NAMES, STYLES, strict=False)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False)
    save_figure(figure, path)


def draw_breakdowns(sections: Mapping[str, Mapping[str, Pairs]], path: str | Path) -> None:
    """A panel for each way to break a dataset down: bars of mAP of both students, mean and standard deviation.

    Args:
        sections: groups of each way. A group without a positive has no bar.
        path: of the PNG.

    Raises:
        InputError: ``path`` cannot be written.
    """
    figure = Figure(figsize=(4.4 * len(sections), 3.9), dpi=120, layout="constrained")
    for axes, (section, groups) in zip(
        figure.subplots(1, len(sections), squeeze=False)[0], sections.items(), strict=True
    ):
        for role, (color, _) in zip((0, 1), STYLES, strict=False):
            means, spreads = zip(*(_mean_and_spread(pairs, role) for pairs in groups.values()), strict=True)
            places = np.arange(len(groups)) + 0.38 * (role - 0.5)
            label = NAMES[role] if axes is figure.axes[0] else None
            bars = axes.bar(places, means, 0.36, yerr=spreads, color=color, capsize=3, label=label)
            axes.bar_label(bars, labels=["" if np.isnan(m) else f"{m:.1f}" for m in means], padding=2, fontsize=8)
        texts = [plain_text(group).replace(" (", "\n(") for group in groups]
        axes.set_xticks(range(len(groups)), texts, fontsize=9)
        axes.set_title(f"by {plain_text(section)}", loc="left")
        axes.set_ylabel("mAP (%)")
        axes.margins(y=0.12)
        _plain(axes)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    save_figure(figure, path)


def _mean_and_spread(pairs: Pairs, role: int) -> tuple[float, float]:
    found = spread([100 * pair[role]["mAP"] for pair in pairs])
    return found.mean, found.deviation or 0.0


def _plain(axes: Axes) -> None:
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
