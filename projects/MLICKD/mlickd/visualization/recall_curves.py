"""Curves of the recall of proposals, over their number and over the IoU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mlickd.evaluation.proposal_recall import ProposalRecall

from .charts import STYLES, plain_text, save_figure, style_axes

__all__ = ["draw_recall_curves"]

_IOUS = np.linspace(0.5, 1.0, 51)


def draw_recall_curves(recalls: Mapping[str, ProposalRecall], count: int, path: str | Path) -> None:
    """Draw two panels: recall at IoU 0.5 (thick) and 0.7 (thin) over the number of proposals, and recall over IoU.

    Args:
        recalls: measurements by name.
        count: number of proposals of the right panel, one of the counts of each measurement.
        path: path of the PNG.
    """
    figure = Figure(figsize=(12, 4.8), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    handles = []
    for number, (name, recall) in enumerate(recalls.items()):
        color, dashes = STYLES[number % len(STYLES)]
        handles.append(Line2D([], [], color=color, linestyle=dashes, linewidth=2.2, label=plain_text(name)))
        for threshold, width in ((0.5, 2.2), (0.7, 1.0)):
            left.plot(recall.counts, recall.recall(threshold)[0], color=color, linestyle=dashes, linewidth=width)
        right.plot(_IOUS, recall.at([count]).recall(*_IOUS)[:, 0], color=color, linestyle=dashes, linewidth=2.2)
    left.set_xscale("log")
    left.set_xlabel("proposals of an image")
    left.set_title("recall at IoU 0.5 (thick) and 0.7 (thin)", loc="left")
    right.set_xlabel("IoU")
    right.set_title(f"recall of the best {count} proposals", loc="left")
    for axes in (left, right):
        axes.set_ylim(0, 1)
        style_axes(axes)
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 4), frameon=False)
    save_figure(figure, path)
