"""Plots of several methods with several seeds each: the gain of each class, and precision over recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from .charts import BLUE, RED, STYLES, plain_text, save_figure

__all__ = ["draw_class_gains", "draw_precision_recall"]

# Recalls at which the curves of several seeds are averaged.
_RECALLS = np.linspace(0.0, 1.0, 201)
# Panels side by side, at most; more go into further rows.
_PANELS = 5


def draw_class_gains(
    gains: Mapping[str, np.ndarray], class_names: Sequence[str], path: str | Path, reference: str = "baseline"
) -> None:
    """A panel for each method with a bar for each class: its AP less that of the reference, mean over the seeds.

    A line on each bar is the standard deviation over the seeds, where there are several. All panels have one scale and
    one order of classes: best gain of the first method first.

    Args:
        gains: of each method (S, C) differences of AP in points, a row for each seed; NaN where a class has none.
        class_names: C names.
        path: of the PNG.
        reference: name of what the methods are compared with.

    Raises:
        ValueError: no method is given.
        InputError: ``path`` cannot be written.
    """
    if not gains:
        raise ValueError("no method is given")
    means = {method: of_method.mean(axis=0) for method, of_method in gains.items()}
    first = next(iter(means.values()))
    order = [int(index) for index in np.argsort(first, kind="stable") if np.isfinite(first[index])]
    lines = -(-len(gains) // _PANELS)
    columns = -(-len(gains) // lines)
    size = (2.6 + 2.3 * columns, lines * (1.3 + 0.19 * len(order)))
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
    places = np.arange(len(order))
    for axes, (method, of_method) in zip(panels, gains.items(), strict=False):
        values = means[method][order]
        deviations = of_method[:, order].std(axis=0, ddof=1) if len(of_method) > 1 else None
        axes.barh(places, values, height=0.75, color=[BLUE if value >= 0 else RED for value in values])
        if deviations is not None:
            axes.errorbar(values, places, xerr=deviations, fmt="none", ecolor="#16181d", elinewidth=0.7)
        axes.set_title(f"{plain_text(method)}: {np.nanmean(values):+.1f}", loc="left", fontsize=10)
        axes.axvline(0, color="#16181d", linewidth=0.8)
        axes.set_yticks(places, [plain_text(class_names[index]) for index in order], fontsize=8)
        axes.set_ylim(-0.6, len(order) - 0.4)
        axes.grid(axis="x", alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelbottom=True, labelsize=8)
    for axes in panels[len(gains) :]:
        axes.set_visible(False)
    figure.supxlabel(
        f"AP less AP {plain_text(reference)}, in points\nmean over seeds; line: standard deviation", fontsize=9
    )
    save_figure(figure, path)


def draw_precision_recall(curves: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]], path: str | Path) -> None:
    """A line for each method, the mean of its seeds at equal recall, in a band from their lowest to their highest.

    Args:
        curves: of each method, for each seed (T,) precision and (T,) ascending recall.
        path: of the PNG.

    Raises:
        ValueError: no method is given.
        InputError: ``path`` cannot be written.
    """
    if not curves:
        raise ValueError("no method is given")
    figure = Figure(figsize=(7.5, 5.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    for number, (method, of_method) in enumerate(curves.items()):
        color, dashes = STYLES[number % len(STYLES)]
        precision = np.stack([np.interp(_RECALLS, recall, values) for values, recall in of_method])
        axes.plot(_RECALLS, precision.mean(axis=0), color=color, linestyle=dashes, label=plain_text(method))
        if len(precision) > 1:
            axes.fill_between(_RECALLS, precision.min(axis=0), precision.max(axis=0), color=color, alpha=0.12, lw=0)
    axes.set_xlabel("recall of all labels of all images (micro average)")
    axes.set_ylabel("precision")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    save_figure(figure, path)
