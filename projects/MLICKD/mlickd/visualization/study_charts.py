"""Charts of several runs: gains of classes, and precision over recall."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from .charts import STYLES, escape_mathtext, save_figure, style_axes
from .image_results import BLUE, INK, RED

# Recalls at which the curves of several seeds are averaged.
_RECALLS = np.linspace(0.0, 1.0, 201)


def draw_class_gains(gains: Mapping[str, np.ndarray], class_names: Sequence[str], path: str | Path) -> None:
    """Draw a panel for each method, with a bar for each class: its AP minus the AP of the baseline, mean over seeds.

    A line on a bar shows the standard deviation over the seeds. All panels share the scale and the order of classes:
    the best gain of the first method is at the top.

    Args:
        gains: by method, (S, C) differences of AP in points for S seeds; NaN for a class without a positive.
        class_names: C names.
        path: path of the PNG.
    """
    means = {method: values.mean(axis=0) for method, values in gains.items()}
    first = next(iter(means.values()))
    order = [int(index) for index in np.argsort(first, kind="stable") if np.isfinite(first[index])]
    rows = -(-len(gains) // 5)
    columns = -(-len(gains) // rows)
    inches = 2.6 + 2.3 * columns, (1.3 + 0.19 * len(order)) * rows
    figure = Figure(figsize=inches, dpi=120, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flatten()
    for unused in panels[len(gains) :]:
        unused.set_visible(False)
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
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(places, [escape_mathtext(class_names[index]) for index in order], fontsize=8)
        axes.tick_params(axis="x", labelbottom=True, labelsize=8)
        style_axes(axes, f"{escape_mathtext(method)}: {np.nanmean(mean):+.1f}", "x", ylim=(-0.6, len(order) - 0.4))
    label = "AP minus AP of the baseline, in points"
    if any(len(values) > 1 for values in gains.values()):
        label += "\nmean over seeds; line: standard deviation"
    figure.supxlabel(label, fontsize=9)
    save_figure(figure, path)


def draw_precision_recall(curves: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]], path: str | Path) -> None:
    """Draw a line for each method: the mean precision of its seeds at each recall. A band shows minimum and maximum.

    Args:
        curves: by method, (T,) precision and (T,) ascending recall of each seed.
        path: path of the PNG.
    """
    figure = Figure(figsize=(7.5, 5.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    for number, (method, seeds) in enumerate(curves.items()):
        color, dashes = STYLES[number % len(STYLES)]
        precision = np.stack([np.interp(_RECALLS, recall, values) for values, recall in seeds])
        axes.plot(_RECALLS, precision.mean(axis=0), color=color, linestyle=dashes, label=escape_mathtext(method))
        if len(precision) > 1:
            axes.fill_between(_RECALLS, precision.min(axis=0), precision.max(axis=0), color=color, alpha=0.12, lw=0)
    axes.legend(frameon=False, fontsize=9)
    label = "recall of all labels of all images (micro average)"
    style_axes(axes, xlim=(0, 1), ylim=(0, 1.02), xlabel=label, ylabel="precision")
    save_figure(figure, path)
