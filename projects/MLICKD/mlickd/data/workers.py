"""What processes of a data loader do before they load."""

from __future__ import annotations

import signal

__all__ = ["leave_signals_to_the_run"]


def leave_signals_to_the_run(_worker: int) -> None:
    """Let the process that a worker loads for decide what a request to stop means: it needs its batch to the end.

    A terminal sends Ctrl-C to all processes, and a scheduler SIGTERM. The first SIGTERM is not for the worker; who
    sends a second one means it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
