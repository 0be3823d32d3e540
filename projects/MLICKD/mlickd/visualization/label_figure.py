"""The labels of a dataset in one picture: how often each class occurs, how many an image has, what occurs together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlickd.data.checking import LabelStatistics

from .curves import plain_text, save_figure
from .result_figure import BLUE

__all__ = ["draw_labels"]


def draw_labels(name: str, labels: LabelStatistics, path: str | Path) -> None:
    """Draw the label statistics of the dataset ``name``.

    Args:
        name: of the dataset.
        labels: of N images and C classes.
        path: of the PNG.

    Raises:
        InputError: ``path`` cannot be written.
    """
    num_classes = len(labels.class_names)
    side = min(max(4.0, 1.2 + 0.19 * num_classes), 60.0)  # inches, of the matrix
    figure = Figure(figsize=(side + 6.5, side + 1.2), dpi=110, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(5.0, side + 1.5))
    class_axes, count_axes = left.subplots(2, 1, height_ratios=(side, 1.6))
    _draw_classes(class_axes, labels)
    _draw_counts(count_axes, labels)
    _draw_together(right.subplots(), labels)
    figure.suptitle(f"{plain_text(name)}: {sum(labels.per_image.values())} images", x=0.01, ha="left")
    save_figure(figure, path)


def _draw_classes(axes: Axes, labels: LabelStatistics) -> None:
    rows = np.arange(len(labels.class_names))
    bars = axes.barh(rows, labels.positives, color=BLUE)
    axes.bar_label(bars, padding=3, fontsize=7)
    axes.set_yticks(rows, [plain_text(name) for name in labels.class_names], fontsize=7)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.15 * max(labels.positives.max(), 1))
    axes.set_title("images with the class", loc="left", fontsize=10)
    _plain_axes(axes, "x")


def _draw_counts(axes: Axes, labels: LabelStatistics) -> None:
    bars = axes.bar(list(labels.per_image), list(labels.per_image.values()), color=BLUE)
    if len(labels.per_image) <= 12:
        axes.bar_label(bars, fontsize=7)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_title("images by their number of labels", loc="left", fontsize=10)
    axes.margins(y=0.2)
    _plain_axes(axes, "y")


def _draw_together(axes: Axes, labels: LabelStatistics) -> None:
    # Row i, column j: of the images with class i, the share that has class j, too.
    share = labels.together / np.maximum(labels.positives, 1)[:, None]
    share = np.where(labels.positives[:, None] > 0, share, np.nan)
    np.fill_diagonal(share, np.nan)
    largest = np.nanmax(share, initial=0.0)
    picture = axes.imshow(share, cmap="viridis", vmin=0, vmax=largest or 1.0)
    axes.set_facecolor("#dddddd")
    ticks = np.arange(len(labels.class_names))
    names = [plain_text(name) for name in labels.class_names]
    axes.set_xticks(ticks, names, rotation=90, fontsize=7)
    axes.set_yticks(ticks, names, fontsize=7)
    axes.set_title("share of the row's images that have the column's class, too", loc="left", fontsize=10)
    axes.figure.colorbar(picture, ax=axes, shrink=0.6, format=lambda value, _: f"{100 * value:.0f} %")


def _plain_axes(axes: Axes, grid: str) -> None:
    axes.grid(axis=grid, alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)
