"""Kill training with SIGKILL at random moments, resume it, and compare the results bit by bit.

For each kind of run, one run is not killed. Others are killed once, twice or three times, after the first time while or
after they resume: at random moments of the iterations, during the write of a checkpoint, during start-up, and while a
checkpoint is loaded. In the end, their folders must have the content of the run that was not killed.

Example:

  All five kinds, 20 kills each:
    PYTHONPATH=projects/MLICKD:tests OMP_NUM_THREADS=1 python tests/stress/kill_and_resume.py --kills 20
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import TextIO

import torch
import torch.utils.tensorboard  # imported once instead of in each run

from helpers.forked_runs import WRITING, count_writing, die_in_writing, fork, wait_or_kill
from helpers.run_endings import differences, ending
from helpers.run_kinds import KINDS, RunKinds, train_arguments
from mlickd.cli.train_net import run

# Numbers of kills of a run, in turn.
CHAINS = (2, 1, 3)
# Targets of the kills, in turn: of new runs, and of resumed runs.
OF_NEW = ("write", "iterations", "write", "iterations", "write", "start")
OF_RESUMED = ("start", "write", "load", "iterations")
# Lines of the log.
LOADING, STARTED = "Loading from", "Starting training from iteration "
LOADING_SECONDS = 0.03
# A run that takes longer hangs.
LONGEST = 240.0


@dataclass
class Outcome:
    """Counts of the killed runs of one kind.

    Attributes:
        runs: number of runs that were killed.
        kills: number of kills.
        in_write: number of kills that left a checkpoint half written.
        in_start: number of kills of a resumed run before its first iteration.
        resumed_at: number of resumptions by iteration.
        missed: number of kills that came after the end of the run.
        failures: for each failed run, its differences to the run that was not killed.
    """

    kind: str
    runs: int = 0
    kills: int = 0
    in_write: int = 0
    in_start: int = 0
    resumed_at: Counter = field(default_factory=Counter)
    missed: int = 0
    failures: list[str] = field(default_factory=list)

    def row(self) -> str:
        """Return the row of the table."""
        resumed = " ".join(f"{at}:{count}" for at, count in sorted(self.resumed_at.items()))
        equal = f"{self.runs - len(self.failures)} of {self.runs}"
        cells = (self.kind, self.runs, self.kills, self.in_write, self.in_start, resumed, self.missed, equal)
        return f"| {' | '.join(map(str, cells))} |"


HEADER = """| run | killed runs | kills | of them within a checkpoint | while a resumed run started | resumed at \
iteration:times | came too late | ended bit by bit as the whole run |
|---|---|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class WholeRun:
    """The run that is not killed.

    Attributes:
        start_up: seconds before its first iteration.
        training: seconds from there to its end.
        writing: its calls of `WRITING`.
        ending: its results.
    """

    start_up: float
    training: float
    writing: list[str]
    ending: dict[str, object]


class Killer:
    """Kills runs of one kind."""

    def __init__(self, kinds: RunKinds, kind: str, folder: Path, seed: int, workers: int):
        """
        Args:
            kinds: files of the runs.
            kind: kind of run.
            folder: new folder for the runs.
            seed: seed of the random moments.
            workers: number of loader workers in the runs that are resumed to their end.
        """
        self._kinds, self._kind, self._folder, self._workers = kinds, kind, folder, workers
        self._draw = random.Random(f"{seed} {kind}")
        folder.mkdir()
        self._whole = self._train_whole()

    def kill(self, kills: int) -> Outcome:
        """Kill and resume runs until the number of kills is reached."""
        outcome, chains, of_new, of_resumed = Outcome(self._kind), cycle(CHAINS), cycle(OF_NEW), cycle(OF_RESUMED)
        most = 2 * kills + 5
        for number in range(most):
            left = min(next(chains), kills - outcome.kills)
            if not left:
                return outcome
            self._kill_run(self._folder / f"killed {number}", left, outcome, of_new, of_resumed)
        sys.exit(f"{self._kind}: {outcome.missed} of {most} runs had ended before they were killed; give a longer run")

    def _kill_run(
        self, output: Path, times: int, outcome: Outcome, of_new: Iterator[str], of_resumed: Iterator[str]
    ) -> None:
        log = Path(f"{output}.log")
        for killed in range(times):
            began, since = log.stat().st_size if log.exists() else 0, time.time()
            status = self._train_and_kill(output, log, next(of_resumed if killed else of_new), resume=killed > 0)
            if status == 0:
                outcome.missed += 1
                break
            if status != -9:
                sys.exit(f"{log}: ended with status {status} before it was killed\n{log.read_text()[-3000:]}")
            outcome.runs += killed == 0
            outcome.kills += 1
            if STARTED.encode() in log.read_bytes()[began:]:
                outcome.in_write += left_half_written(output, since)
            else:
                outcome.in_start += killed > 0
        else:
            resumed = fork(lambda: self._train(output, resume=True, workers=self._workers), log)
            finish(resumed, log)
            outcome.resumed_at[start_of_last(log)] += 1
        if killed or status:  # it was killed at all
            outcome.failures += differences(self._whole.ending, ending(output), output)

    def _train_and_kill(self, output: Path, log: Path, aim: str, *, resume: bool) -> int:
        """Train, kill the process, and return its exit status."""
        if aim == "write":
            # A resumed run may have only one checkpoint left to write.
            names = list(enumerate(self._whole.writing))
            names = names[: len(names) // 5] if resume else names
            of_kind = self._draw.choice(WRITING)
            call = self._draw.choice([i for i, name in names if name == of_kind])
            return wait_or_kill(fork(lambda: (die_in_writing(call), self._train(output, resume=resume)), log), LONGEST)
        log.touch()
        with log.open() as lines:
            lines.seek(0, os.SEEK_END)
            process = fork(lambda: self._train(output, resume=resume), log)
            if aim == "start":
                return wait_or_kill(process, self._draw.uniform(0, self._whole.start_up))
            wait_for(LOADING if aim == "load" else STARTED, process, lines)
        return wait_or_kill(process, self._draw.uniform(0, LOADING_SECONDS if aim == "load" else self._whole.training))

    def _train_whole(self) -> WholeRun:
        output, log, calls = (self._folder / name for name in ("whole", "whole.log", "calls"))

        def work() -> None:
            count_writing(calls)
            self._train(output, resume=False)

        log.touch()
        times = [time.monotonic()]
        with log.open() as lines:
            process = fork(work, log)
            wait_for(STARTED, process, lines)
        times.append(time.monotonic())
        finish(process, log)
        times.append(time.monotonic())
        return WholeRun(times[1] - times[0], times[2] - times[1], calls.read_text().split(), ending(output))

    def _train(self, output: Path, *, resume: bool, workers: int = 0) -> None:
        cfg = self._kinds.config(self._kind, output, "DATALOADER.NUM_WORKERS", workers)
        run(cfg, train_arguments(cfg, resume))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="number of kills of each kind of run (default: 20)")
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=KINDS,
        default=KINDS,
        metavar="KIND",
        help=f"kinds of runs (default: {' '.join(KINDS)})",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments (default: 0)")
    parser.add_argument("--workers", type=int, default=1, help="loader workers of resumed runs (default: 1)")
    return parser.parse_args()


def wait_for(words: str, process: int, lines: TextIO) -> None:
    """Wait until a run logs these words, or ends."""
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT  # WNOWAIT keeps the status for the later wait
    said = ""
    while words not in said and os.waitid(os.P_PID, process, ended) is None:
        time.sleep(0.001)
        said = said[-len(words) :] + lines.read()


def finish(process: int, log: Path) -> None:
    """Wait for a run that is not killed, and check that it succeeds."""
    status = wait_or_kill(process, LONGEST)
    if status != 0:
        problem = "hangs" if status == -9 else "has failed"
        sys.exit(f"{log}: {problem}\n{log.read_text()[-3000:]}")


def left_half_written(output: Path, since: float) -> bool:
    """Return whether a process that started at ``since`` was killed while it wrote a checkpoint."""
    if list(output.glob("*.unfinished")):
        return True
    digests, last = output / "checkpoints.json", output / "last_checkpoint"
    saved = list(json.loads(digests.read_text())) if digests.exists() else []
    tagged = [last.read_text()] if last.exists() else []
    # A checkpoint of an earlier process may be there until it is written again.
    stray = [path for path in output.glob("model_*.pth") if path.name not in saved and path.stat().st_mtime >= since]
    return bool(stray) or saved[-1:] != tagged or not all((output / name).exists() for name in saved)


def start_of_last(log: Path) -> int:
    """Return the iteration from which a run continued, from its log."""
    return int(log.read_text().rpartition(STARTED)[2].split()[0])


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(1)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # A forked process lacks PyTorch's threads, so this process does not compute.
        finish(fork(lambda: RunKinds.create(folder), folder / "data.log"), folder / "data.log")
        kinds = RunKinds.of(folder)
        print(HEADER, flush=True)
        outcomes = []
        for kind in args.kinds:
            outcomes.append(Killer(kinds, kind, folder / kind, args.seed, args.workers).kill(args.kills))
            print(outcomes[-1].row(), flush=True)
            for failure in outcomes[-1].failures:
                print(failure, flush=True)
    failures = [failure for outcome in outcomes for failure in outcome.failures]
    print(f"{time.monotonic() - start:.0f} s, seed {args.seed}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
