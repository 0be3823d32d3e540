"""Requests to stop, SIGINT and SIGTERM, that come to a process which has started others."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess

__all__ = ["REQUESTS", "RequestsToStop", "end_at_once_when_asked"]

REQUESTS = (signal.SIGINT, signal.SIGTERM)


class RequestsToStop:
    """Passes a request to stop on to the processes that are started here, which end in their own way.

    This one waits for them. A signal that is ignored, as under ``nohup``, stays so.
    """

    def __init__(self):
        self.first = 0
        self._processes: Sequence[BaseProcess] = ()
        self._before: dict = {}

    def __enter__(self) -> RequestsToStop:
        if threading.current_thread() is threading.main_thread():
            kinds = [kind for kind in REQUESTS if signal.getsignal(kind) != signal.SIG_IGN]
            self._before = {kind: signal.signal(kind, self._request) for kind in kinds}
        return self

    def __exit__(self, *_: object) -> None:
        for kind, handler in self._before.items():
            signal.signal(kind, handler)

    def start(self, start: Callable[[], Sequence[BaseProcess]]) -> Sequence[BaseProcess]:
        """
        Args:
            start: starts processes, which call :func:`end_at_once_when_asked` first of all.

        Returns:
            What it returns. What came while they were being started has been passed on.
        """
        with _no_interrupts():
            self._processes = start()
        if self.first:
            self._pass_on(self.first)
        return self._processes

    def _request(self, kind: int, _: object) -> None:
        self.first = self.first or kind
        self._pass_on(kind)

    def _pass_on(self, kind: int) -> None:
        # SIGTERM is heard by those, too, whose Python is still starting.
        for each in dict.fromkeys((kind, signal.SIGTERM)):
            for process in self._processes:
                if process.is_alive():
                    os.kill(process.pid, each)


def end_at_once_when_asked() -> None:
    """A request to stop ends this process, wherever it is and without a word, as long as nobody else listens to it.

    A handler in Python would not be called while PyTorch waits for another process.
    """
    for kind in REQUESTS:
        if signal.getsignal(kind) != signal.SIG_IGN:
            signal.signal(kind, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, REQUESTS)


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Processes that are started here do not hear Ctrl-C: Python would show where in its imports each of them was."""
    resource_tracker.ensure_running()  # it would be started with the first of them, and undo this
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
