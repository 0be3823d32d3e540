"""The first failure of several processes, which all of them come to know."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.pool import RemoteTraceback

import torch.distributed as dist

from mlickd.errors import InputError, ProcessError, debugging, users_error

__all__ = ["Failure", "FailureBoard", "FailureWatch", "is_lost_connection"]

# Between two looks at the board, in seconds.
_PERIOD = 1.0


@dataclass(frozen=True)
class Failure:
    """Why a process has ended early.

    Attributes:
        rank: of the process.
        host: name of its machine.
        message: what the user can mend, the traceback of any other exception, how the system has ended it, or the name
            of the signal by which it was asked to stop.
        kind: ``input``, ``exception``, ``ended`` or ``stopped``.
        trace: where in the code the kind ``input`` was found, if the user has asked for that.
    """

    rank: int
    host: str
    message: str
    kind: str
    trace: str = ""

    @classmethod
    def of_exception(cls, error: Exception, rank: int) -> Failure:
        """Of a process of this machine that an exception ends."""
        text = "".join(traceback.format_exception(error)).rstrip()
        message = users_error(error)
        if message is not None:
            return cls(rank, socket.gethostname(), message, "input", text if debugging() else "")
        return cls(rank, socket.gethostname(), text, "exception")

    @classmethod
    def of_end(cls, how: str, rank: int) -> Failure:
        """Of a process of this machine that is gone.

        Args:
            how: behind "it was ended", for instance ``by SIGKILL``.
            rank: of the process.
        """
        return cls(rank, socket.gethostname(), how, "ended")

    @classmethod
    def of_request(cls, kind: int, rank: int) -> Failure:
        """Of a process of this machine that was asked to stop by a signal, and did so where it was."""
        return cls(rank, socket.gethostname(), signal.Signals(kind).name, "stopped")

    def error(self, world_size: int, remedy: str) -> InputError | ProcessError | SystemExit:
        """As what a command ends with; ``remedy`` says how to go on."""
        if self.kind == "stopped":
            return SystemExit(128 + signal.Signals[self.message])
        where = f"process {self.rank + 1} of {world_size} on {self.host}"
        if self.kind == "input":
            error = InputError(self.message)
            if self.trace:
                error.__cause__ = RemoteTraceback(f"{where}\n{self.trace}")
            return error
        if self.kind == "ended":
            return ProcessError(f"{where} was ended {self.message}; {remedy}")
        return ProcessError(f"{where} has failed:\n{self.message}")


class FailureBoard:
    """Where processes of all machines write down why they fail. Only the first failure is kept: others follow from it.

    It is an entry of a key-value store of PyTorch, in JSON, and not unpickled.
    """

    def __init__(self, store: dist.Store, name: str = ""):
        """
        Args:
            store: that all processes reach.
            name: of the run, where a store serves several after each other.
        """
        self.store = store
        self.key = f"mlickd/failure/{name}"

    def post(self, failure: Failure) -> None:
        """Write down a failure, if it is the first one."""
        self.store.compare_set(self.key, "", json.dumps(asdict(failure)))

    def first(self) -> Failure | None:
        """What is written there.

        Raises:
            RuntimeError: the store cannot be reached any more.
        """
        return Failure(**json.loads(self.store.get(self.key))) if self.store.check([self.key]) else None


class FailureWatch:
    """Ends this process when another one has failed: computing with the others, it would wait for that one for long.

    A thread looks at the board every second, for the process itself may be inside of PyTorch, where it hears nothing.
    """

    def __init__(self, board: FailureBoard, rank: int, report: Callable[[Failure], None] | None = None):
        """
        Args:
            board: through a connection of its own.
            rank: of this process, whose own failure is no reason to end it here.
            report: what else is to be done about the failure of another process.
        """
        self._board, self._rank, self._report = board, rank, report
        self._stopped, self._finished = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="failures of other processes", daemon=True)

    def __enter__(self) -> FailureWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def finish(self) -> None:
        """This process has done its work: that the store goes, as it does after the last process, is no failure."""
        self._finished.set()

    def _watch(self) -> None:
        while not self._stopped.wait(_PERIOD):
            try:
                failure = self._board.first()
            except RuntimeError:
                if self._finished.is_set():
                    return
                failure = Failure.of_end("together with the process that has started it", self._rank)
                self._leave(failure)
            if failure is not None:
                if failure.rank != self._rank:
                    self._leave(failure)
                return

    def _leave(self, failure: Failure) -> None:
        if self._report is not None:
            self._report(failure)
        sys.stdout.flush()
        sys.stderr.flush()
        # Exceptions do not reach a main thread that waits for another process.
        os._exit(1)


def is_lost_connection(error: BaseException) -> bool:
    """Whether an exception only says that another process is gone, or has not come."""
    text = str(error).lower()
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in text for word in ("gloo", "nccl", "connection closed by peer"))
    )
