"""Steps that are commands: each is logged, and not run again as long as nothing that it hangs on has changed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mlickd.config_files import read_config_file
from mlickd.data.catalog import dataset_root
from mlickd.data.proposals.store import ProposalStore
from mlickd.errors import InputError
from mlickd.files import file_digest, write_whole_file
from mlickd.runs import data_record, machine_line

from .progress import write_log, write_log_with_bar

__all__ = ["Step", "StepRunner", "StepState", "data_digest", "step_digest", "stopped_by_signals", "threads_of_each"]

logger = logging.getLogger(__name__)

# Seconds that a command has to end after it was asked to.
_GRACE = 10.0


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        name: the folder of its results under ``folder``; also the name of its log file.
        title: for the reader.
        command: arguments behind ``python``.
        result: a file that the command leaves when it has ended well.
        folder: where its log and its record are, below ``logs``.
        configs: configuration files that the command names.
        reads: files that it is made from; where their content changes, the step is run again.
        datasets: names of the datasets that it is made from; where their images, labels or classes change, likewise.
        makes: a folder of its own, which is removed where it is of something else by now.
        resume: arguments, behind the name of the tool, with which a stopped command goes on in ``makes``.
        regardless_of: arguments of the command that the step does not hang on.
        after: steps that have to end well before.
    """

    name: str
    title: str
    command: Sequence[str]
    result: Path
    folder: Path
    configs: Sequence[Path] = ()
    reads: Sequence[Path] = ()
    datasets: Sequence[str] = ()
    makes: Path | None = None
    resume: Sequence[str] = ()
    regardless_of: Sequence[str] = ()
    after: Sequence[Step] = ()

    @property
    def key(self) -> str:
        """Tells it from all other steps."""
        return str(self.folder / self.name)

    @property
    def label(self) -> str:
        """For one line in a terminal."""
        return f"{self.folder.name}/{self.name}"

    @property
    def log(self) -> Path:
        """What the command printed."""
        return self.folder / "logs" / f"{self.name.replace('/', '_')}.log"

    @property
    def record(self) -> Path:
        """JSON of all steps of the folder, by name: the digest of what was run, and how it ended."""
        return self.folder / "logs" / "steps.json"


@dataclass(frozen=True)
class StepState:
    """How a step stands.

    Attributes:
        seconds: that its command took; None where it has not ended well.
        resumed: whether the command went on with a stopped one, whose seconds are not counted.
        failure: why the last try has failed; empty where it has not.
        changed: whether it hangs on something that has changed since, so that it would be run again.
        ran: how it was run the last time: ``threads`` (0: as the environment had it), ``at_once`` and ``machine``.
    """

    seconds: float | None = None
    resumed: bool = False
    failure: str = ""
    changed: bool = False
    ran: Mapping[str, Any] = field(default_factory=dict)


def threads_of_each(jobs: int) -> int:
    """Threads of each of several commands, which share the cores; of one 0, which is what the environment says."""
    if jobs == 1:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // jobs)


def step_digest(step: Step) -> str:
    """SHA-256 of all that a step hangs on: command, configuration, datasets and their place, content of what it reads.

    A path of the command counts as it is spelled: who makes steps gives it in one spelling.

    A configuration is what its file says, with the files that it is based on: a key that is new to the project leaves
    what has ended before as it is.
    """
    said = [read_config_file(path, str(path)) for path in step.configs]
    configurations = [json.dumps(values, sort_keys=True, default=str) for values in said]
    command = [argument for argument in step.command if argument not in step.regardless_of]
    content = [_content_digest(path) for path in step.reads]
    root = str(dataset_root().resolve())
    data = [data_digest(name, root) for name in step.datasets]
    return hashlib.sha256("\0".join([*configurations, root, *command, *content, *data]).encode()).hexdigest()


def _content_digest(path: Path) -> str:
    if path.is_dir():
        with suppress(InputError):  # proposals that are not complete
            return ProposalStore.open(path).digest()
    return file_digest(path) if path.is_file() else "missing"


@cache
def data_digest(name: str, _root: str) -> str:
    """SHA-256 of a dataset below a root; computed once in a process, for reading a large one takes a while."""
    return data_record(name)["sha256"]


class StepRunner:
    """Runs steps, from several threads if need be, and remembers how each ended."""

    def __init__(self, threads: int = 0, bar: bool = True, at_once: int = 1):
        """
        Args:
            threads: of each command, as OMP_NUM_THREADS. 0: as the environment has it.
            bar: show each command and a bar that follows it; without, a line when it starts and one when it ends.
            at_once: how many commands the caller runs at once, at most; for the record.
        """
        self.threads, self.bar, self.at_once = threads, bar, at_once
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen] = set()
        self._stopped = False

    def state(self, step: Step) -> StepState:
        """How a step stands, given what it hangs on now."""
        return _state(step, _read_records(step).get(step.name, {}), step_digest(step))

    def run(self, step: Step) -> float:
        """Run a step, unless it has ended well before with all that it hangs on as it is now.

        Returns:
            The seconds of its command, then or now.

        Raises:
            InputError: it has failed.
        """
        digest = step_digest(step)
        last = _read_records(step).get(step.name, {})
        state = _state(step, last, digest)
        if state.seconds is not None and not state.changed:
            logger.info("%s: done before, in %.0f s", self._name(step), state.seconds)
            return state.seconds
        record, command = self._begin(step, last, digest)
        logger.info(
            "%s\n  $ python %s" if self.bar else "%s: started (%s)", self._name(step), self._detail(command, step)
        )
        start = time.perf_counter()
        status = self._execute(step, command)
        seconds = time.perf_counter() - start
        if status != 0 or not step.result.exists():
            if self._stopped:
                raise InputError(f"{step.title} was stopped; give the same command again to go on")
            how = _end_of_command(status, step.log) if status != 0 else f"has ended without leaving {step.result}"
            message = f"{step.title} {how} (see {step.log})"
            self._remember(step, {**record, "failure": message})
            raise InputError(message)
        self._remember(step, {**record, "seconds": seconds})
        if not self.bar:
            logger.info("%s: done in %.0f s", self._name(step), seconds)
        return seconds

    def stop(self) -> None:
        """End all commands that run; what they have made stays, and the same step goes on from there."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            _end(process)

    def _begin(self, step: Step, last: dict, digest: str) -> tuple[dict, list[str]]:
        """Remember that a step begins.

        Returns:
            Its record, and its command.
        """
        step.log.parent.mkdir(parents=True, exist_ok=True)
        ran = {"threads": self.threads, "at_once": self.at_once, "machine": machine_line()}
        record: dict = {"digest": digest, "ran": ran}
        command = list(step.command)
        if step.makes:
            # A folder that was there before the first run is none of these steps', and stays.
            record["made"] = last.get("made", not step.makes.exists())
            if record["made"] and step.makes.is_dir():
                if last["digest"] != digest:
                    logger.info("%s: %s is of something else by now, and is made again", step.title, step.makes)
                    shutil.rmtree(step.makes)
                elif step.resume:
                    command[1:1] = step.resume
                    record["resumed"] = True
        self._remember(step, record)
        return record, command

    def _execute(self, step: Step, command: Sequence[str]) -> int:
        """Run a command to its end; its status."""
        environment = dict(os.environ)
        if self.threads:
            environment["OMP_NUM_THREADS"] = str(self.threads)
        with self._lock:
            if self._stopped:
                return -signal.SIGTERM
            # A session of its own: a Ctrl-C in the terminal reaches this process alone, which then ends the others.
            process = subprocess.Popen(
                [sys.executable, *command],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=environment,
                start_new_session=True,
            )
            self._running.add(process)
        try:
            if self.bar:
                write_log_with_bar(process.stdout, step.log, step.name)
            else:
                write_log(process.stdout, step.log)
            return process.wait()
        except BaseException:
            _end(process)
            raise
        finally:
            process.stdout.close()
            with self._lock:
                self._running.discard(process)

    def _remember(self, step: Step, record: dict) -> None:
        with self._lock:
            records = {**_read_records(step), step.name: record}
            write_whole_file(step.record, json.dumps(records, indent=2), "make room, then give the same command again")

    def _name(self, step: Step) -> str:
        return step.title if self.bar else step.label

    def _detail(self, command: Sequence[str], step: Step) -> str:
        return shlex.join(command) if self.bar else str(step.log)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """A request to end, or the end of the terminal, is a KeyboardInterrupt, so that no command is left behind.

    A signal that is ignored, as under ``nohup``, stays so.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    kinds = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        kinds = []  # only the main thread may ask for signals
    kinds = [kind for kind in kinds if signal.getsignal(kind) != signal.SIG_IGN]
    before = {kind: signal.signal(kind, interrupt) for kind in kinds}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _state(step: Step, record: dict, digest: str) -> StepState:
    changed = record.get("digest", digest) != digest
    ran = record.get("ran", {})
    if "seconds" in record and step.result.exists():
        return StepState(record["seconds"], record.get("resumed", False), changed=changed, ran=ran)
    return StepState(failure=record.get("failure", ""), changed=changed, ran=ran)


def _read_records(step: Step) -> dict[str, dict]:
    try:
        records = json.loads(step.record.read_text()) if step.record.is_file() else {}
    except (ValueError, RecursionError):
        records = None
    if not isinstance(records, dict) or not all(isinstance(record, dict) for record in records.values()):
        raise InputError(f"{step.record}: is damaged; remove it, and what it tells of is done again")
    return records


def _end_of_command(status: int, log: Path) -> str:
    """How a command has failed, with the last that it said."""
    ended = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"has failed with status {status}"
    last = log.read_text().strip().splitlines()[-1:]
    return ": ".join([ended, *last])


def _end(process: subprocess.Popen) -> None:
    """End a command and the processes that it has started."""
    for kind in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        if process.poll() is not None:
            return
        with suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, kind)
            else:
                process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
