"""What processes of a data loader do before they load."""

from __future__ import annotations

import os
import signal
import threading

__all__ = ["ignore_signals_in_worker"]


def ignore_signals_in_worker(_worker: int) -> None:
    """Let the process that a worker loads for decide what a request to stop means: it needs its batch to the end.

    A terminal sends Ctrl-C to all processes, and a scheduler SIGTERM. The worker ends when its own parent says so, as
    it does at the end of a loader.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS, where SIGTERM ends a worker
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    # Only this call tells who has sent a signal.
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
        pass
    os._exit(0)
