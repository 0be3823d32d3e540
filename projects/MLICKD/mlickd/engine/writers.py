"""What training writes into its log, beside Detectron2's writers."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from detectron2.engine import HookBase
from detectron2.utils.events import EventWriter, TensorboardXWriter, get_event_storage

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["METRICS", "EvaluationPrinter", "EvaluationWriter", "TensorBoardWriter", "forget_metrics"]

logger = logging.getLogger(__name__)

# Of Detectron2's JSONWriter: a JSON object in each line.
METRICS = "metrics.json"

_SHOWN = ("mAP", "AP50", "CorLoc")


class EvaluationPrinter(EventWriter):
    """One line after each evaluation with the figures that say how training goes; tables stand before it."""

    def __init__(self) -> None:
        self._last_iteration = -1

    def write(self) -> None:
        """Log mAP, AP50 and CorLoc where they are new."""
        new = {
            name: (value, iteration)
            for name, (value, iteration) in get_event_storage().latest().items()
            if iteration > self._last_iteration and any(part in _SHOWN for part in name.split("/"))
        }
        if not new:
            return
        self._last_iteration = max(iteration for _, iteration in new.values())
        figures = "  ".join(f"{name}: {value:.2f}" for name, (value, _) in new.items())
        logger.info(" iter: %d  %s", self._last_iteration, figures)


class EvaluationWriter(HookBase):
    """Writes the figures of an evaluation at once: Detectron2 keeps them for some iterations, and a kill loses them."""

    def __init__(self, writers: Sequence[EventWriter], period: int):
        """
        Args:
            writers: that Detectron2's hook has, too, and closes.
            period: ``TEST.EVAL_PERIOD``.
        """
        self._writers, self._period = writers, period

    def after_step(self) -> None:
        """Write what is new."""
        if self._period > 0 and (self.trainer.iter + 1) % self._period == 0:
            for writer in self._writers:
                writer.write()


class TensorBoardWriter(TensorboardXWriter):
    """Detectron2's, that takes back what a killed run has shown of iterations that are now made once more."""

    def __init__(self, folder: str, start: Callable[[], int]):
        """
        Args:
            folder: of the run.
            start: the first iteration of the run; asked for when the first figure is written.
        """
        super().__init__(folder)
        self._folder, self._start = folder, start

    @cached_property
    def _writer(self) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter  # takes long to import

        return SummaryWriter(self._folder, purge_step=self._start())


def forget_metrics(path: Path, iteration: int) -> None:
    """Cut off the lines of ``metrics.json`` from an iteration on, for they are written once more.

    A last line that a killed run has not finished goes, too. The file stays the same for who has it open for appending.

    Args:
        path: of the file; it may be missing.
        iteration: the first that is not kept.
    """
    if not path.exists():
        return
    kept = 0
    with path.open("rb") as file:
        for line in file:
            try:
                content = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n") or not isinstance(content, dict) or content.get("iteration", 0) >= iteration:
                break
            kept += len(line)
    os.truncate(path, kept)
