"""A request to stop, as Ctrl-C or from the system, is met after the iteration, with a checkpoint."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

from detectron2.engine import HookBase
from detectron2.utils import comm

from .checkpointing import FINAL, RunCheckpointer, checkpoint_name
from .processes import STOP_SIGNALS, max_over_processes

__all__ = ["StopHook"]

logger = logging.getLogger(__name__)

# Ctrl-C comes from the terminal, and a moment later once more from the launcher that passes it on; only one that comes
# so many seconds after the first is a second one.
_SAME_REQUEST = 1.0


class StopHook(HookBase):
    """Ends training in order on SIGINT or SIGTERM: a checkpoint, one line, and the status 128 + signal.

    Which iteration is the last one is agreed on by all processes. A second SIGINT, as of a user who does not want to
    wait, ends a process at once. SIGTERM never does, however often it comes: a scheduler sends it to all processes, and
    the launcher, at whatever time, once more to its own. Who wants the end at once has SIGKILL.
    """

    def __init__(self, checkpointer: RunCheckpointer):
        """
        Args:
            checkpointer: of the run.
        """
        self.checkpointer = checkpointer
        self._signal = 0
        self._interrupted = 0.0
        self._process = 0
        self._before: dict = {}

    def before_train(self) -> None:
        """Listen to signals; those that are ignored, as under ``nohup``, stay so."""
        self._signal, self._interrupted, self._process = 0, 0.0, os.getpid()
        if threading.current_thread() is threading.main_thread():
            kinds = [kind for kind in STOP_SIGNALS if signal.getsignal(kind) != signal.SIG_IGN]
            self._before = {kind: signal.signal(kind, self._request) for kind in kinds}

    def after_step(self) -> None:
        """Stop here, if any process has been asked to.

        Raises:
            SystemExit: with the status of a process that was ended by the signal.
        """
        request = max_over_processes(self._signal)
        if not request:
            return
        finished = self.trainer.iter + 1 >= self.trainer.max_iter
        name = FINAL if finished else checkpoint_name(self.trainer.iter)
        if not self.checkpointer.has_saved(name):
            self.checkpointer.save(name, iteration=self.trainer.iter)
        # From here on a further signal may end a process, and with it the others: not before the first one has saved.
        comm.synchronize()
        logger.info(
            "Stopped by %s after iteration %d: the same command with --resume goes on from %s.pth",
            signal.Signals(request).name,
            self.trainer.iter,
            name,
        )
        raise SystemExit(128 + request)

    def after_train(self) -> None:
        """Signals are what they were before."""
        for kind, handler in self._before.items():
            signal.signal(kind, handler)
        self._before = {}

    def _request(self, kind: int, _: object) -> None:
        if os.getpid() != self._process:
            return  # a worker that was forked and has not yet turned to its own handlers
        if not self._signal:
            self._signal = kind
            if comm.is_main_process():
                name = signal.Signals(kind).name
                _say(f"{name}: training stops after this iteration; a second Ctrl-C ends it at once")
        if kind != signal.SIGINT:
            return
        now = time.monotonic()
        if not self._interrupted:
            self._interrupted = now
        elif now - self._interrupted > _SAME_REQUEST:
            signal.signal(kind, signal.SIG_DFL)
            os.kill(os.getpid(), kind)


def _say(line: str) -> None:
    # A log may be in the middle of a line of its own when a signal comes.
    os.write(2, f"{line}\n".encode())
