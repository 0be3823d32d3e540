"""What training writes into its log, beside Detectron2's writers."""

from __future__ import annotations

import logging

from detectron2.utils.events import EventWriter, get_event_storage

__all__ = ["EvaluationPrinter"]

logger = logging.getLogger(__name__)

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
