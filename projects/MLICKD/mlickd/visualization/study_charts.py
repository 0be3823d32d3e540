"""Charts of several runs: gains of classes, precision over recall, mAP on damaged images and in parts of a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mlickd.evaluation.spread import spread

from .charts import BLUE, INK, RED, STYLES, plain_text, save_figure, style_axes

__all__ = ["draw_breakdowns", "draw_class_gains", "draw_precision_recall", "draw_robustness"]

# Recalls at which the curves of several seeds are averaged.
_RECALLS = np.linspace(0.0, 1.0, 201)
# Panels in a row.
_MAX_PANELS = 5
# For each pair of runs, metrics of the baseline and of the distilled student, as fractions.
Pairs = Sequence[Sequence[Mapping[str, float]]]
_ROLES = ("baseline", "distilled")


def draw_class_gains(
    gains: Mapping[str, np.ndarray], class_names: Sequence[str], path: str | Path, reference: str = "baseline"
) -> None:
    """Draw a panel for each method, with a bar for each class: its AP minus that of the reference, mean over the seeds.

    A line on a bar shows the standard deviation over the seeds. All panels have one scale and one order of classes: the
    best gain of the first method is at the top.

    Args:
        gains: by method, (S, C) differences of AP in points, a row for each seed; NaN for a class without a positive.
        class_names: C names.
        path: PNG file to write.
        reference: name of the method that the others are compared with.

    Raises:
        InputError: the file cannot be written.
    """
    means = {method: values.mean(axis=0) for method, values in gains.items()}
    first = next(iter(means.values()))
    order = [int(index) for index in np.argsort(first, kind="stable") if np.isfinite(first[index])]
    lines = -(-len(gains) // _MAX_PANELS)
    columns = -(-len(gains) // lines)
    size = (2.6 + 2.3 * columns, lines * (1.3 + 0.19 * len(order)))
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
    places = np.arange(len(order))
    for axes, (method, values) in zip(panels, gains.items(), strict=False):
        mean = means[method][order]
        bars = axes.barh(places, mean, height=0.75, color=[BLUE if value >= 0 else RED for value in mean])
        if len(gains) == 1 and len(values) == 1:
            axes.bar_label(bars, labels=[f"{value:+.1f}" for value in mean], padding=3, fontsize=8)
            axes.margins(x=0.15)
        if len(values) > 1:
            deviations = values[:, order].std(axis=0, ddof=1)
            axes.errorbar(mean, places, xerr=deviations, fmt="none", ecolor=INK, elinewidth=0.7)
        axes.set_title(f"{plain_text(method)}: {np.nanmean(mean):+.1f}", loc="left", fontsize=10)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(places, [plain_text(class_names[index]) for index in order], fontsize=8)
        axes.set_ylim(-0.6, len(order) - 0.4)
        axes.tick_params(axis="x", labelbottom=True, labelsize=8)
        style_axes(axes, "x")
    for axes in panels[len(gains) :]:
        axes.set_visible(False)
    label = f"AP minus AP of {plain_text(reference)}, in points"
    if any(len(values) > 1 for values in gains.values()):
        label += "\nmean over seeds; line: standard deviation"
    figure.supxlabel(label, fontsize=9)
    save_figure(figure, path)


def draw_precision_recall(curves: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]], path: str | Path) -> None:
    """Draw a line for each method, the mean of its seeds at equal recall, in a band from their lowest to their highest.

    Args:
        curves: by method, for each seed (T,) precision and (T,) ascending recall.
        path: PNG file to write.

    Raises:
        InputError: the file cannot be written.
    """
    figure = Figure(figsize=(7.5, 5.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    for number, (method, of_seeds) in enumerate(curves.items()):
        color, dashes = STYLES[number % len(STYLES)]
        precision = np.stack([np.interp(_RECALLS, recall, values) for values, recall in of_seeds])
        axes.plot(_RECALLS, precision.mean(axis=0), color=color, linestyle=dashes, label=plain_text(method))
        if len(precision) > 1:
            axes.fill_between(_RECALLS, precision.min(axis=0), precision.max(axis=0), color=color, alpha=0.12, lw=0)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="precision")
    axes.set_xlabel("recall of all labels of all images (micro average)")
    axes.legend(frameon=False, fontsize=9)
    style_axes(axes)
    save_figure(figure, path)


def draw_robustness(conditions: Mapping[str, Pairs], path: str | Path) -> None:
    """Draw a panel for each kind of damage: mAP over its strength (0: none), mean and standard deviation of the pairs.

    Args:
        conditions: metrics by condition: ``clean``, and ``NAME:STRENGTH`` for each damage.
        path: PNG file to write.

    Raises:
        InputError: the file cannot be written.
    """
    panels: dict[str, list[int]] = {}
    for name, colon, strength in (condition.partition(":") for condition in conditions):
        if colon:
            panels.setdefault(name, []).append(int(strength))
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(max(3.0 * columns, 6), 0.6 + 2.7 * rows), dpi=120, layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, (name, strengths) in zip(grid.flat, panels.items(), strict=False):
        places = [0, *sorted(strengths)]
        pairs = [conditions[f"{name}:{place}" if place else "clean"] for place in places]
        for role, (color, dashes) in zip(range(2), STYLES, strict=False):
            means, deviations = _means(pairs, role)
            axes.errorbar(places, means, deviations, color=color, linestyle=dashes, marker="o", ms=4, capsize=3)
        axes.set_title(plain_text(name), loc="left")
        axes.set_xticks(places, ["clean", *map(str, places[1:])])
        style_axes(axes, "y")
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("mAP (%)")
    _add_legend(figure)
    save_figure(figure, path)


def draw_breakdowns(sections: Mapping[str, Mapping[str, Pairs]], path: str | Path) -> None:
    """Draw a panel for each way to break a dataset down: bars of mAP, mean and standard deviation of the pairs.

    Args:
        sections: groups of each way. A group without a positive has no bar.
        path: PNG file to write.

    Raises:
        InputError: the file cannot be written.
    """
    figure = Figure(figsize=(4.4 * len(sections), 3.9), dpi=120, layout="constrained")
    grid = figure.subplots(1, len(sections), squeeze=False)[0]
    for axes, (section, groups) in zip(grid, sections.items(), strict=True):
        for role, (color, _) in zip(range(2), STYLES, strict=False):
            means, deviations = _means(list(groups.values()), role)
            places = np.arange(len(groups)) + 0.38 * (role - 0.5)
            bars = axes.bar(places, means, 0.36, yerr=deviations, color=color, capsize=3)
            axes.bar_label(bars, labels=["" if np.isnan(m) else f"{m:.1f}" for m in means], padding=2, fontsize=8)
        texts = [plain_text(group).replace(" (", "\n(") for group in groups]
        axes.set_xticks(range(len(groups)), texts, fontsize=9)
        axes.set_title(f"by {plain_text(section)}", loc="left")
        axes.set_ylabel("mAP (%)")
        axes.margins(y=0.12)
        style_axes(axes, "y")
    _add_legend(figure)
    save_figure(figure, path)


def _means(groups: Sequence[Pairs], role: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the mAP of one role in each group, in percent."""
    found = [spread([100 * pair[role]["mAP"] for pair in pairs]) for pairs in groups]
    return [of_group.mean for of_group in found], [of_group.deviation or 0.0 for of_group in found]


def _add_legend(figure: Figure) -> None:
    styles = zip(_ROLES, STYLES, strict=False)
    handles = [Line2D([], [], color=color, linestyle=dashes, lw=3, label=name) for name, (color, dashes) in styles]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False)
