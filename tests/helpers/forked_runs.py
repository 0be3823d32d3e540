"""Training in a forked process, so that a run that is to be killed does not wait for its imports."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from mlickd import files as whole_files

__all__ = ["WRITING", "content_digest", "count_writing", "die_in_writing", "fork", "wait_for", "wait_or_kill"]

# Functions that write a checkpoint. A process is killed before or within one of them.
WRITING = ("write", "fsync", "replace")


def fork(work: Callable[[], None], log: Path) -> int:
    """Start a process that does some work, whose output goes to the end of a file; its id."""
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
        work()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        # The fork must not clean up for its parent.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait_or_kill(process: int, seconds: float | None = None) -> int:
    """Wait for a process to end, for so long at most, then kill it; its status, of a killed one -9."""
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
    """Wait until a process has written these words into its log, after the byte ``begin``, or ends."""
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT  # WNOWAIT keeps the status for the later wait
    while os.waitid(os.P_PID, process, ended) is None:
        if log.exists() and words.encode() in log.read_bytes()[begin:]:
            return
        time.sleep(0.002)


def count_writing(path: Path) -> None:
    """Note each call of `WRITING` of this process, a line each."""
    log = path.open("w", buffering=1)
    _before_writing(lambda kind, _: log.write(f"{kind}\n"))


def die_in_writing(call: int) -> None:
    """Kill this process at one of its calls of `WRITING`, counted from 0; a write gets half of its data done."""
    left = [call]

    def die(kind: str, half: Callable[[], object]) -> None:
        left[0] -= 1
        if left[0] < 0:
            half()
            os.kill(os.getpid(), signal.SIGKILL)

    _before_writing(die)


def _before_writing(note: Callable[[str, Callable[[], object]], object]) -> None:
    write, fsync, replace = whole_files.DigestingFile.write, os.fsync, os.replace

    def noted_write(file: whole_files.DigestingFile, data: bytes) -> int:
        note("write", lambda: (write(file, bytes(data)[: len(data) // 2]), file.flush()))
        return write(file, data)

    def noted_fsync(descriptor: int) -> None:
        note("fsync", lambda: None)
        fsync(descriptor)

    def noted_replace(*paths: object) -> None:
        note("replace", lambda: None)
        replace(*paths)

    whole_files.DigestingFile.write, os.fsync, os.replace = noted_write, noted_fsync, noted_replace


def content_digest(path: Path) -> str:
    """Return a digest of all values in a PyTorch file, independent of how the file shares their memory."""
    digest = hashlib.sha256()

    def add(value: object) -> None:
        digest.update(type(value).__name__.encode())
        if isinstance(value, torch.Tensor):
            digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
            digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
        elif isinstance(value, dict):
            for key in sorted(value, key=str):
                digest.update(str(key).encode())
                add(value[key])
        elif isinstance(value, (list, tuple)):
            for part in value:
                add(part)
        else:
            digest.update(repr(value).encode())

    add(torch.load(path, map_location="cpu", weights_only=True))
    return digest.hexdigest()
