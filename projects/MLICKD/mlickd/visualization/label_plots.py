"""Which labels occur together in truth and predictions, and how many regions a teacher finds of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from .curves import plain_text, save_figure

__all__ = ["draw_label_frequencies", "draw_region_counts"]

# Lower ends of the intervals of scores, as steps of a scale that goes over orders of magnitude.
_SCORE_STEPS = (0.0, 0.01, 0.03, 0.1, 0.3)


def draw_label_frequencies(panels: Mapping[str, np.ndarray], class_names: Sequence[str], path: str | Path) -> None:
    """A matrix beside the other, of one color scale: of the images with the row's class, the share with the column's.

    Args:
        panels: by title, (C, C) conditional frequencies; NaN is left gray.
        class_names: C names.
        path: of the PNG.

    Raises:
        ValueError: no panel is given.
        InputError: ``path`` cannot be written.
    """
    if not panels:
        raise ValueError("no panel is given")
    side = min(max(3.2, 1.0 + 0.17 * len(class_names)), 30.0)  # inches
    figure = Figure(figsize=(side * len(panels) + 1.8, side + 1.6), dpi=110, layout="constrained")
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    largest = max((np.nanmax(matrix, initial=0.0) for matrix in panels.values()), default=0.0) or 1.0
    places = np.arange(len(class_names))
    names = [plain_text(name) for name in class_names]
    for axes, (title, matrix) in zip(all_axes, panels.items(), strict=True):
        picture = axes.imshow(matrix, cmap="viridis", vmin=0, vmax=largest)
        axes.set_facecolor("#dddddd")
        axes.set_xticks(places, names, rotation=90, fontsize=7)
        axes.set_yticks(places, names, fontsize=7)
        axes.set_title(plain_text(title), loc="left", fontsize=10)
    all_axes[0].set_ylabel("of the images with this class ...", fontsize=9)
    figure.supxlabel("... the share that has this class, too; gray: no such image", fontsize=9)
    figure.colorbar(picture, ax=list(all_axes), shrink=0.7, format=lambda value, _: f"{100 * value:.0f} %")
    save_figure(figure, path)


def draw_region_counts(
    scores: np.ndarray, classes: np.ndarray, num_images: int, class_names: Sequence[str], path: str | Path
) -> None:
    """A bar for each class: how many regions the teacher finds on an image, in steps of their scores.

    Args:
        scores: (R,) of all regions of all images.
        classes: (R,) indices of their classes.
        num_images: that they are of.
        class_names: C names.
        path: of the PNG.

    Raises:
        InputError: ``path`` cannot be written.
    """
    ends = [*_SCORE_STEPS[1:], np.inf]
    counts = np.stack(
        [
            np.bincount(classes[(scores >= start) & (scores < end)], minlength=len(class_names))
            for start, end in zip(_SCORE_STEPS, ends, strict=True)
        ]
    )
    best = np.full(len(class_names), 0.0)
    np.maximum.at(best, classes, scores)
    order = np.lexsort((best, counts[-1], counts.sum(axis=0)))
    figure = Figure(figsize=(8, 1.8 + 0.24 * len(order)), dpi=120, layout="constrained")
    axes = figure.subplots()
    places, left = np.arange(len(order)), np.zeros(len(order))
    # From pale to dark: also told apart in gray.
    for start, end, of_step, color in zip(
        _SCORE_STEPS, ends, counts, ("#eef1f0", "#d4e6dc", "#8cc7a3", "#2f9e5b", "#0b4d26"), strict=True
    ):
        label = f"from {start:g}" if np.isinf(end) else f"{start:g} to {end:g}"
        widths = of_step[order] / num_images
        axes.barh(places, widths, left=left, color=color, label=label)
        left += widths
    for place, category in zip(places, order, strict=True):
        axes.annotate(
            f"best {best[category]:.2f}",
            (left[place], place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    axes.set_yticks(places, [plain_text(class_names[category]) for category in order], fontsize=8)
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_xlim(0, 1.12 * (left.max(initial=0.0) or 1.0))
    axes.set_xlabel(f"the teacher's regions an image, mean of {num_images}")
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(title="score", frameon=False, fontsize=8, title_fontsize=8, loc="lower right")
    save_figure(figure, path)
