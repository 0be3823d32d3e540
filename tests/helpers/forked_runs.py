"""Train in a forked process, which does not repeat the imports."""

import hashlib
import os
import pprint
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils._pytree import tree_map

from mlickd import files

# Calls that write a checkpoint. A process is killed before or during one of them.
WRITING = ("write", "fsync", "replace")


def fork(work: Callable[[], None], log: Path) -> int:
    """Start a process that calls ``work`` and appends its output to a file; return the id of the process."""
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # not those of pytest's capsys
        work()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        # The fork must not run the clean-up of its parent.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait_or_kill(process: int, seconds: float | None = None) -> int:
    """Wait for a process, kill it after some seconds, and return its status: -9 if it was killed."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(process, 0 if deadline is None else os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            os.kill(process, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        time.sleep(0.001)


def wait_for(words: str, process: int, log: Path, begin: int = 0) -> None:
    """Wait until the log of a process has these words after the byte ``begin``, or until the process ends."""
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT  # WNOWAIT keeps the status for the later wait
    while os.waitid(os.P_PID, process, ended) is None:
        if log.exists() and words.encode() in log.read_bytes()[begin:]:
            return
        time.sleep(0.002)


def count_writing(path: Path) -> None:
    """Write a line for each call of `WRITING` in this process to a file."""
    log = path.open("w", buffering=1)
    _before_writing(lambda kind, _: log.write(f"{kind}\n"))


def die_in_writing(call: int) -> None:
    """Kill this process at a call of `WRITING`, counted from 0. A killed write has written half of its data."""
    left = [call]

    def die(kind: str, half: Callable[[], object]) -> None:
        left[0] -= 1
        if left[0] < 0:
            half()
            os.kill(os.getpid(), signal.SIGKILL)

    _before_writing(die)


def _before_writing(note: Callable[[str, Callable[[], object]], object]) -> None:
    write, fsync, replace = files.WritableFile.write, os.fsync, os.replace

    def noted_write(file: files.WritableFile, data: bytes) -> int:
        note("write", lambda: (write(file, bytes(data)[: len(data) // 2]), file.flush()))
        return write(file, data)

    def noted_fsync(descriptor: int) -> None:
        note("fsync", lambda: None)
        fsync(descriptor)

    def noted_replace(*paths: object) -> None:
        note("replace", lambda: None)
        replace(*paths)

    files.WritableFile.write, os.fsync, os.replace = noted_write, noted_fsync, noted_replace


def content_digest(path: Path) -> str:
    """Return a digest of all values in a PyTorch file, independent of how the file shares their memory."""

    def describe(value: object) -> object:
        if not isinstance(value, torch.Tensor):
            return value
        data = value.contiguous().flatten().view(torch.uint8).numpy()
        return str(value.dtype), tuple(value.shape), hashlib.sha256(data).hexdigest()

    content = tree_map(describe, torch.load(path, map_location="cpu", weights_only=True))
    return hashlib.sha256(pprint.pformat(content).encode()).hexdigest()
