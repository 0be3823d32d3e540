"""Plots of runs: training curves on shared axes, and the difference that distillation makes to each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mlickd.errors import InputError
from mlickd.runs import multilabel_results, training_metrics

from .result_figure import BLUE, RED
from .results import one_line

__all__ = ["STYLES", "draw_class_differences", "draw_training_curves", "plain_text", "save_figure"]

# Told apart by color-blind readers (Okabe and Ito), and by their dashes.
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
    """Loss and, where the runs were evaluated, mAP on the test set, over iterations.

    The loss is that of the labels, which runs with and without distillation share; of a stage that has none, such as
    stage 1, it is the total.

    Args:
        runs: for each curve its name and the folders of its stages in order, each with a ``metrics.json``. A stage
            starts where the one before it ended; a vertical line shows where.
        path: of the PNG.

    Raises:
        InputError: a ``metrics.json`` is missing or damaged, no run has logged a loss, or ``path`` cannot be written.
    """
    curves = {name: _join_stages(stages) for name, stages in runs.items()}
    if not any(losses for losses, _, _ in curves.values()):
        raise InputError(f"training curves {path}: no run has logged total_loss; train for longer than 20 iterations")
    evaluated = any(means for _, means, _ in curves.values())
    figure = Figure(figsize=(12 if evaluated else 6.5, 4.6), dpi=120, layout="constrained")
    loss_axes, *mean_axes = figure.subplots(1, 2 if evaluated else 1, squeeze=False)[0]
    loss_axes.set_yscale("log")
    panels = [(loss_axes, "label loss (stage 1: its own)")] + [(axes, "mAP on the test set (%)") for axes in mean_axes]
    handles, marked = [], set()
    for number, (name, (losses, means, boundaries)) in enumerate(curves.items()):
        color, dashes = STYLES[number % len(STYLES)]
        handles.append(Line2D([], [], color=color, linestyle=dashes, label=plain_text(name)))
        # Methods with equal stages share one line and one name of where a stage begins.
        new = [boundary for boundary in boundaries if boundary not in marked]
        marked.update(new)
        for (axes, _), points in zip(panels, (losses, means), strict=False):
            _draw_curve(axes, points, boundaries, color, dashes)
            _draw_boundaries(axes, new, color)
        if means:
            mean_axes[0].annotate(f"{means[-1][1]:.1f}", means[-1], (-8, 5), textcoords="offset points", color=color)
    for axes, title in panels:
        axes.set_title(title, loc="left")
        axes.set_xlabel("iteration")
        axes.set_xlim(left=0)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 5), frameon=False)
    save_figure(figure, path)


def draw_class_differences(baseline: str | Path, distilled: str | Path, path: str | Path) -> None:
    """A bar for each class: its AP in the distilled student less that in the baseline, best gain first.

    Args:
        baseline, distilled: ``multilabel_results.json`` of the two students on one dataset.
        path: of the PNG.

    Raises:
        InputError: a report is missing or damaged, they are of different datasets, classes or protocols, no class
            has a positive, or ``path`` cannot be written.
    """
    before, after = multilabel_results(baseline), multilabel_results(distilled)
    for key, what in (("dataset", "datasets"), ("protocol", "protocols")):
        if before.get(key) != after.get(key):
            raise InputError(f"{baseline} and {distilled} are of different {what}; evaluate both in the same way")
    if before["per_class"].keys() != after["per_class"].keys():
        raise InputError(f"{baseline} and {distilled} have different classes; evaluate both on one dataset")
    differences = {
        name: after["per_class"][name]["AP"] - values["AP"]
        for name, values in before["per_class"].items()
        if values["AP"] is not None and after["per_class"][name]["AP"] is not None
    }
    if not differences:
        raise InputError(f"{baseline}: no class has a positive image; evaluate both runs on a dataset with labels")
    ordered = sorted(differences.items(), key=lambda item: item[1])
    names, values = [name for name, _ in ordered], [value for _, value in ordered]

    figure = Figure(figsize=(8, 1.4 + 0.28 * len(names)), dpi=120, layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(range(len(names)), values, color=[BLUE if value >= 0 else RED for value in values])
    axes.bar_label(bars, labels=[f"{value:+.1f}" for value in values], padding=4, fontsize=9)
    positives = [before["per_class"][name].get("positives") for name in names]
    texts = [
        plain_text(name) + (f" ({count})" if count is not None else "")
        for name, count in zip(names, positives, strict=True)
    ]
    axes.set_yticks(range(len(names)), texts)
    axes.axvline(0, color="#16181d", linewidth=0.8)
    axes.set_xlim(*_with_room(values))
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel("AP distilled less AP baseline, in points; in brackets: positive photos")
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    mean_before, mean_after = before["metrics"]["mAP"], after["metrics"]["mAP"]
    data = plain_text(str(before.get("dataset", "")))
    axes.set_title(f"{data}: mAP {mean_before:.1f} baseline, {mean_after:.1f} distilled", loc="left", fontsize=11)
    save_figure(figure, path)


def _join_stages(folders: Sequence[str | Path]) -> tuple[Points, Points, list[tuple[int, str]]]:
    """Losses, mAP and (first iteration, name) of the stages behind the first."""
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
            # With several test sets the name of each comes first; the first is taken.
            mean = next((value for key, value in values.items() if f"/{key}".endswith("/multilabel/mAP")), None)
            if mean is not None:
                means.append((offset + iteration, mean))
        offset += max(metrics, default=-1) + 1
    return losses, means, boundaries


def _draw_curve(axes: Axes, points: Points, boundaries: Sequence[tuple[int, str]], color: str, dashes) -> None:
    # A line is not drawn across a boundary: the losses of two stages are different quantities.
    starts = [0, *(start for start, _ in boundaries)]
    ends = [*starts[1:], float("inf")]
    marker = "o" if len(points) <= 20 else None
    for start, end in zip(starts, ends, strict=True):
        stage = [(x, y) for x, y in points if start <= x < end]
        if stage:
            axes.plot(*zip(*stage, strict=True), color=color, linestyle=dashes, marker=marker, markersize=5)


def _draw_boundaries(axes: Axes, boundaries: Sequence[tuple[int, str]], color: str) -> None:
    for start, name in boundaries:
        axes.axvline(start, color=color, linestyle=":", linewidth=1.2)
        axes.annotate(
            f" stage {plain_text(name)}",
            (start, 1),
            xycoords=("data", "axes fraction"),
            verticalalignment="top",
            color=color,
            fontsize=9,
        )


def _with_room(values: Sequence[float]) -> tuple[float, float]:
    """Limits of an axis with room for the number beside each bar."""
    low, high = min(*values, 0.0), max(*values, 0.0)
    room = 0.12 * (high - low) or 1.0
    return low - (room if low < 0 else 0.2 * room), high + (room if high > 0 else 0.2 * room)


def plain_text(text: str) -> str:
    """Text in which matplotlib finds no formula."""
    return one_line(text).replace("$", r"\$")


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a PNG, and its folder where that is missing.

    Raises:
        InputError: it cannot be written.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", facecolor="white")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); give another path") from error
