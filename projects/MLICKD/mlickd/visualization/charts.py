"""Curves of training, and the common style of all charts.

The functions ``draw_...`` in all chart modules write a PNG, and raise InputError if the file cannot be written.
"""

import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mlickd.files import write_atomic
from mlickd.runs import training_metrics

from .image_results import printable_line

# Colors that color-blind readers can distinguish (Okabe and Ito), with dashes.
_COLORS = "#0072b2 #d55e00 #009e73 #cc79a7 #555555 #e69f00 #56b4e9 #7a3b00 #5b2a86 #000000".split()
STYLES = list(zip(_COLORS, itertools.cycle(["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))])))
Points = list[tuple[int, float]]


def draw_training_curves(runs: Mapping[str, Sequence[str | Path]], dataset: str, path: str | Path) -> None:
    """Draw the loss over iterations, and the mAP on a dataset if a run was evaluated on it more than once.

    The curve shows the label loss, which all students have. A stage without it, such as stage 1, shows the total loss.

    Args:
        runs: folders of the stages of each run in order, by the name of its curve. A vertical line marks the start of
            each later stage.
        dataset: name of the test dataset.
        path: path of the PNG.

    Raises:
        InputError: a ``metrics.json`` is missing.
    """
    curves = {name: _stage_curves(folders, dataset) for name, folders in runs.items()}
    stages = [stage for run in curves.values() for stage in run]
    evaluated = any(len(means) > 1 for _, _, means in stages)
    figure = Figure(figsize=(12 if evaluated else 6.5, 4.6), dpi=120, layout="constrained")
    panels = figure.subplots(1, 2 if evaluated else 1, squeeze=False)[0]
    panels[0].set_yscale("log")
    handles, marked = [], set()
    for number, (name, run) in enumerate(curves.items()):
        color, dashes = STYLES[number % len(STYLES)]
        handles.append(Line2D([], [], color=color, linestyle=dashes, label=escape_mathtext(name)))
        # No line connects two stages, because their losses are different quantities.
        for (start, stage), *stage_curves in run:
            for axes, points in zip(panels, stage_curves, strict=False):
                marker = "o" if len(points) <= 20 else None
                axes.plot(*zip(*points, strict=True), color=color, linestyle=dashes, marker=marker, markersize=5)
                if start:
                    axes.axvline(start, color=color, linestyle=":", linewidth=1.2)
            if start and (start, stage) not in marked:  # methods with equal stages share a name
                at_top = {"xycoords": ("data", "axes fraction"), "verticalalignment": "top"}
                panels[0].annotate(f" stage {escape_mathtext(stage)}", (start, 1), color=color, fontsize=9, **at_top)
                marked.add((start, stage))
        if evaluated and (last := [means[-1] for _, _, means in run if means][-1:]):
            panels[1].annotate(f"{last[0][1]:.1f}", last[0], (-8, 5), textcoords="offset points", color=color)
    titles = "label loss (stage 1: total loss)", f"mAP on {escape_mathtext(dataset)} (%)"
    for axes, title in zip(panels, titles, strict=False):
        style_axes(axes, title, xlabel="iteration", xlim=(0, None))
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 5), frameon=False)
    save_figure(figure, path)


def _stage_curves(folders: Sequence[str | Path], dataset: str) -> list[tuple[tuple[int, str], Points, Points]]:
    """Return (first iteration, name), losses and mAP of each stage; iterations are counted over all stages."""
    stages = []
    offset = 0
    for folder in folders:
        losses, means = [], []
        metrics = training_metrics(folder)
        # With several test datasets, keys start with the name of the dataset.
        is_only_dataset = Path(folder, "inference", dataset).is_dir()
        for iteration, values in metrics.items():
            loss = values.get("loss_label", values.get("total_loss"))
            if loss is not None:
                losses.append((offset + iteration, loss))
            mean = values.get(f"{dataset}/multilabel/mAP", values.get("multilabel/mAP") if is_only_dataset else None)
            if mean is not None:
                means.append((offset + iteration, mean))
        stages.append(((offset, Path(folder).name), losses, means))
        offset += max(metrics, default=-1) + 1
    return stages


def style_axes(axes: Axes, title: str = "", grid: str = "both", **properties: Any) -> None:
    """Set title and properties, draw a light grid behind the data, and remove the frame.

    ``grid="x"``, for horizontal bars, also removes the y ticks.
    """
    axes.set_title(title, loc="left", fontsize=11)
    axes.set(**properties)
    axes.grid(axis=grid, alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if grid == "x":
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)


def escape_mathtext(text: str) -> str:
    """Return text in one line, without characters that matplotlib would parse as mathtext."""
    return printable_line(text).replace("$", r"\$")


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG; a missing folder is created."""
    content = io.BytesIO()
    figure.savefig(content, format="png", facecolor="white")
    write_atomic(path, content.getvalue(), "give another path")
