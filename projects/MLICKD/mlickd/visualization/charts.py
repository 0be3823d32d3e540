"""Charts with matplotlib: their common style, and training curves of several runs on shared axes.

All functions ``draw_...`` here and in the modules of other charts write a PNG, and raise InputError if they cannot.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mlickd.errors import InputError
from mlickd.files import write_whole_file
from mlickd.runs import training_metrics

from .image_results import one_line

__all__ = ["BLUE", "INK", "RED", "STYLES", "draw_training_curves", "plain_text", "save_figure", "style_axes"]

BLUE, RED, INK = "#1a4fd0", "#c8201e", "#16181d"
# Colors that color-blind readers can distinguish (Okabe and Ito), each with its own dashes.
STYLES = [
    ("#0072b2", "-"),
    ("#d55e00", "--"),
    ("#009e73", "-."),
    ("#cc79a7", ":"),
    ("#555555", (0, (5, 1, 1, 1, 1, 1))),
    ("#e69f00", "-"),
    ("#56b4e9", "--"),
    ("#7a3b00", "-."),
    ("#5b2a86", ":"),
    ("#000000", (0, (8, 2))),
]
Points = list[tuple[int, float]]


def draw_training_curves(runs: Mapping[str, Sequence[str | Path]], path: str | Path) -> None:
    """Draw the loss over iterations and, for evaluated runs, the mAP on the test set.

    The loss is that of the labels, which all students have; for a stage without it, such as stage 1, the total loss.

    Args:
        runs: for the name of each curve, the folders of its stages in order. A stage starts where the one before it
            ends, at a vertical line.
        path: path of the PNG.

    Raises:
        InputError: a ``metrics.json`` is missing or damaged, or no run has a loss.
    """
    curves = {name: _join_stages(stages) for name, stages in runs.items()}
    if not any(losses for losses, _, _ in curves.values()):
        raise InputError(f"training curves {path}: no run has logged total_loss; train for longer than 20 iterations")
    evaluated = any(means for _, means, _ in curves.values())
    figure = Figure(figsize=(12 if evaluated else 6.5, 4.6), dpi=120, layout="constrained")
    panels = figure.subplots(1, 2 if evaluated else 1, squeeze=False)[0]
    panels[0].set_yscale("log")
    handles, marked = [], set()
    for number, (name, (losses, means, boundaries)) in enumerate(curves.items()):
        color, dashes = STYLES[number % len(STYLES)]
        handles.append(Line2D([], [], color=color, linestyle=dashes, label=plain_text(name)))
        # A line does not cross a boundary, because the losses of two stages are different quantities.
        starts = [0, *(start for start, _ in boundaries)]
        for axes, points in zip(panels, (losses, means), strict=False):
            for start, end in zip(starts, [*starts[1:], float("inf")], strict=True):
                stage = [point for point in points if start <= point[0] < end]
                if stage:
                    marker = "o" if len(points) <= 20 else None
                    axes.plot(*zip(*stage, strict=True), color=color, linestyle=dashes, marker=marker, markersize=5)
            for start, _ in boundaries:
                axes.axvline(start, color=color, linestyle=":", linewidth=1.2)
        # Methods with equal stages share one name of a boundary.
        for start, stage in [boundary for boundary in boundaries if boundary not in marked]:
            at_top = {"xycoords": ("data", "axes fraction"), "verticalalignment": "top"}
            panels[0].annotate(f" stage {plain_text(stage)}", (start, 1), color=color, fontsize=9, **at_top)
        marked.update(boundaries)
        if means:
            panels[1].annotate(f"{means[-1][1]:.1f}", means[-1], (-8, 5), textcoords="offset points", color=color)
    for axes, title in zip(panels, ("label loss (stage 1: total loss)", "mAP on the test set (%)"), strict=False):
        axes.set_title(title, loc="left")
        axes.set_xlabel("iteration")
        axes.set_xlim(left=0)
        style_axes(axes)
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 5), frameon=False)
    save_figure(figure, path)


def _join_stages(folders: Sequence[str | Path]) -> tuple[Points, Points, list[tuple[int, str]]]:
    """Return losses, mAP, and (first iteration, name) of all stages but the first."""
    losses, means, boundaries = [], [], []
    offset = 0
    for folder in folders:
        metrics = training_metrics(folder)
        if offset:
            boundaries.append((offset, Path(folder).name))
        for iteration, values in metrics.items():
            loss = values.get("loss_label", values.get("total_loss"))
            if loss is not None:
                losses.append((offset + iteration, loss))
            # With several test sets, keys begin with their names; the first is drawn.
            mean = next((value for key, value in values.items() if f"/{key}".endswith("/multilabel/mAP")), None)
            if mean is not None:
                means.append((offset + iteration, mean))
        offset += max(metrics, default=-1) + 1
    return losses, means, boundaries


def style_axes(axes: Axes, grid: str = "both") -> None:
    """Draw a light grid behind the data, and no frame; for horizontal bars (grid ``x``) no ticks of the classes."""
    axes.grid(axis=grid, alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if grid == "x":
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)


def plain_text(text: str) -> str:
    """Return text that matplotlib does not take for a formula."""
    return one_line(text).replace("$", r"\$")


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a PNG, and make its folder if it is missing."""
    content = io.BytesIO()
    figure.savefig(content, format="png", facecolor="white")
    write_whole_file(path, content.getvalue(), "give another path", parents=True)
