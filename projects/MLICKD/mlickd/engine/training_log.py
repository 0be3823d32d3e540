"""What the log says of a training that an exception has ended."""

from __future__ import annotations

import logging

from mlickd.errors import InputError, one_line

from .processes import is_lost_connection

__all__ = ["shorten_tracebacks"]

_OF_TRAINING = logging.getLogger("detectron2.engine.train_loop")


def shorten_tracebacks() -> None:
    """One line in place of the traceback that Detectron2 logs, of exceptions that are no bugs.

    The command shows bad input in one line, too. A connection that is lost is the fault of another process, whose error
    would be hard to find among the tracebacks of all others.
    """
    _OF_TRAINING.addFilter(_shorten)  # which is there once, however often it is added


def _shorten(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, InputError):
        record.msg, record.args, record.exc_info = "Training has stopped: %s", (one_line(error),), None
    elif error is not None and is_lost_connection(error):
        record.msg, record.args, record.exc_info = "Training has stopped: another process is gone", (), None
    return True
