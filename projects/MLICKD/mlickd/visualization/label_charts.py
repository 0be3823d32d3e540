"""Charts of classes: labels in a dataset, labels that occur together, and regions that a teacher finds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from mlickd.data.checking.split_checks import LabelStatistics

from .charts import escape_mathtext, save_figure, style_axes
from .image_results import BLUE

# Lower ends of the intervals of scores, with colors from pale to dark.
_SCORE_COLORS = {0.0: "#eef1f0", 0.01: "#d4e6dc", 0.03: "#8cc7a3", 0.1: "#2f9e5b", 0.3: "#0b4d26"}


def draw_labels(name: str, labels: LabelStatistics, path: str | Path) -> None:
    """Draw how often each class of a dataset occurs, how many labels an image has, and which occur together."""
    num_classes = len(labels.class_names)
    side = min(max(4.0, 1.2 + 0.19 * num_classes), 60.0)  # side of the matrix, in inches
    figure = Figure(figsize=(side + 6.5, side + 1.2), dpi=110, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(5.0, side + 1.5))
    class_axes, count_axes = left.subplots(2, 1, height_ratios=(side, 1.6))
    bars = class_axes.barh(np.arange(num_classes), labels.positives, color=BLUE)
    class_axes.bar_label(bars, padding=3, fontsize=7)
    class_axes.set_yticks(np.arange(num_classes), [escape_mathtext(name) for name in labels.class_names], fontsize=7)
    style_axes(class_axes, "images with the class", "x", ylim=(num_classes - 0.4, -0.6), xmargin=0.15)
    bars = count_axes.bar(list(labels.per_image), list(labels.per_image.values()), color=BLUE)
    if len(labels.per_image) <= 12:
        count_axes.bar_label(bars, fontsize=7)
    count_axes.xaxis.get_major_locator().set_params(integer=True)
    style_axes(count_axes, "images by number of labels", "y", ymargin=0.2)
    for axes in (class_axes, count_axes):
        axes.tick_params(labelsize=7)
    panels = {"fraction of the row's images with the column's class": labels.conditional}
    _draw_matrices(right, [right.subplots()], panels, labels.class_names)
    figure.suptitle(f"{escape_mathtext(name)}: {sum(labels.per_image.values())} images", x=0.01, ha="left")
    save_figure(figure, path)


def draw_label_frequencies(panels: Mapping[str, np.ndarray], class_names: Sequence[str], path: str | Path) -> None:
    """Draw matrices of conditional frequencies on one color scale.

    Args:
        panels: by title, (C, C) fractions of the images with the row's class that also have the column's class; NaN is
            gray.
        class_names: C names.
        path: path of the PNG.
    """
    side = min(max(3.2, 1.0 + 0.17 * len(class_names)), 30.0)  # inches
    figure = Figure(figsize=(side * len(panels) + 1.8, side + 1.6), dpi=110, layout="constrained")
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    _draw_matrices(figure, all_axes, panels, class_names)
    all_axes[0].set_ylabel("of the images with this class ...", fontsize=9)
    figure.supxlabel("... the fraction that also has this class; gray: no such image", fontsize=9)
    save_figure(figure, path)


def _draw_matrices(
    figure: Figure | SubFigure, all_axes: Sequence[Axes], panels: Mapping[str, np.ndarray], class_names: Sequence[str]
) -> None:
    largest = max(np.nanmax(matrix, initial=0.0) for matrix in panels.values()) or 1.0
    positions, names = np.arange(len(class_names)), [escape_mathtext(name) for name in class_names]
    for axes, (title, matrix) in zip(all_axes, panels.items(), strict=True):
        image = axes.imshow(matrix, cmap="viridis", vmin=0, vmax=largest)
        axes.set_facecolor("#dddddd")
        axes.set_xticks(positions, names, rotation=90, fontsize=7)
        axes.set_yticks(positions, names, fontsize=7)
        axes.set_title(escape_mathtext(title), loc="left", fontsize=10)
    figure.colorbar(image, ax=list(all_axes), shrink=0.7, format=lambda value, _: f"{100 * value:.0f} %")


def draw_region_counts(
    scores: np.ndarray, classes: np.ndarray, num_images: int, class_names: Sequence[str], path: str | Path
) -> None:
    """Draw a bar for each class: the number of the teacher's regions per image, in intervals of their scores.

    Args:
        scores: (R,) scores of all regions of all images.
        classes: (R,) indices of their classes.
        num_images: number of images.
        class_names: C names.
        path: path of the PNG.
    """
    edges = [*_SCORE_COLORS, np.inf]
    counts = np.stack([np.histogram(scores[classes == index], edges)[0] for index in range(len(class_names))], axis=1)
    best = np.zeros(len(class_names))
    np.maximum.at(best, classes, scores)
    order = np.lexsort((best, counts[-1], counts.sum(axis=0)))
    figure = Figure(figsize=(8, 1.8 + 0.24 * len(order)), dpi=120, layout="constrained")
    axes = figure.subplots()
    positions, left = np.arange(len(order)), np.zeros(len(order))
    for per_class, start, end, color in zip(counts, edges, edges[1:], _SCORE_COLORS.values(), strict=False):
        label = f"{start:g} or more" if end == np.inf else f"{start:g} to {end:g}"
        lengths = per_class[order] / num_images
        bars = axes.barh(positions, lengths, left=left, color=color, label=label)
        left += lengths
    texts = [f"best {best[category]:.2f}" if category in classes else "none" for category in order]
    axes.bar_label(bars, labels=texts, padding=4, fontsize=7)
    axes.set_yticks(positions, [escape_mathtext(class_names[category]) for category in order], fontsize=8)
    limits = {"xlim": (0, 1.12 * (left.max(initial=0.0) or 1.0)), "ylim": (-0.6, len(order) - 0.4)}
    style_axes(axes, "", "x", xlabel=f"the teacher's regions per image, mean of {num_images}", **limits)
    axes.legend(title="score", frameon=False, fontsize=8, title_fontsize=8, loc="lower right")
    save_figure(figure, path)
