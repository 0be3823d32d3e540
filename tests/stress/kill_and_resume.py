"""Kill training with SIGKILL at random moments, resume it, and compare the results bit by bit.

For each kind of run, one run is not killed. Others are killed once, twice or three times, after the first time while or
after they resume: at random moments of the iterations, during the write of a checkpoint, and during start-up, when a
checkpoint is loaded. In the end, their folders must have the content of the run that was not killed.

Example:

  All five kinds, 20 kills each:
    PYTHONPATH=projects/MLICKD:tests OMP_NUM_THREADS=1 python tests/stress/kill_and_resume.py --kills 20
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import torch
import torch.utils.tensorboard  # imported once instead of in each run

from helpers.forked_runs import WRITING, count_writing, die_in_writing, fork, wait_for, wait_or_kill
from helpers.run_endings import differences, ending
from helpers.run_kinds import KINDS, RunKinds, train_arguments
from mlickd.cli.train_net import run

# Numbers of kills of a run, in turn.
CHAINS = (2, 1, 3)
# Targets of the kills, in turn: of new runs, and of resumed runs.
OF_NEW = ("write", "iterations")
OF_RESUMED = ("start", "write", "start", "iterations")
# A line of the log.
STARTED = "Starting training from iteration "
# A run that takes longer hangs.
LONGEST = 240.0

HEADER = """| run | killed runs | kills | kills within a checkpoint | kills during a resume | resumed at \
iteration:times | kills that came too late | killed runs equal, bit by bit, to the whole run |
|---|---|---|---|---|---|---|---|"""


@dataclass
class Outcome:
    """Counts of the killed runs of one kind.

    Attributes:
        kind: kind of run.
        runs: number of runs that were killed.
        kills: number of kills by their target.
        resumed_at: number of resumptions by iteration.
        missed: number of kills that came after the end of the run.
        failures: for each failed run, its differences to the run that was not killed.
    """

    kind: str
    runs: int = 0
    kills: Counter = field(default_factory=Counter)
    resumed_at: Counter = field(default_factory=Counter)
    missed: int = 0
    failures: list[str] = field(default_factory=list)

    def row(self) -> str:
        """Return the row of the table."""
        resumed = " ".join(f"{at}:{count}" for at, count in sorted(self.resumed_at.items()))
        kills = (self.kills.total(), self.kills["write"], self.kills["start"])
        equal = f"{self.runs - len(self.failures)} of {self.runs}"
        return f"| {' | '.join(map(str, (self.kind, self.runs, *kills, resumed, self.missed, equal)))} |"


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
        output, log, calls = (folder / name for name in ("whole", "whole.log", "calls"))
        start = time.monotonic()
        process = fork(lambda: (count_writing(calls), self._train(output, resume=False)), log)
        wait_for(STARTED, process, log)
        self._start_up = time.monotonic() - start
        finish(process, log)
        self._training = time.monotonic() - start - self._start_up
        self._writing, self._ending = calls.read_text().split(), ending(output)

    def kill(self, kills: int) -> Outcome:
        """Kill and resume runs until the number of kills is reached."""
        outcome, chains, of_new, of_resumed = Outcome(self._kind), cycle(CHAINS), cycle(OF_NEW), cycle(OF_RESUMED)
        for number in range(2 * kills + 5):
            left = min(next(chains), kills - outcome.kills.total())
            if not left:
                return outcome
            self._kill_run(self._folder / f"killed {number}", left, outcome, of_new, of_resumed)
        sys.exit(f"{self._kind}: {outcome.missed} runs had ended before they were killed; give a longer run")

    def _kill_run(
        self, output: Path, times: int, outcome: Outcome, of_new: Iterator[str], of_resumed: Iterator[str]
    ) -> None:
        log = Path(f"{output}.log")
        for killed in range(times):
            aim = next(of_resumed if killed else of_new)
            status = self._train_and_kill(output, log, aim, resume=killed > 0)
            if status == 0:
                outcome.missed += 1
                break
            if status != -9:
                sys.exit(f"{log}: ended with status {status} before it was killed\n{log.read_text()[-3000:]}")
            outcome.runs += killed == 0
            outcome.kills[aim] += 1
        else:
            finish(fork(lambda: self._train(output, resume=True, workers=self._workers), log), log)
            outcome.resumed_at[int(log.read_text().rpartition(STARTED)[2].split()[0])] += 1
        if killed or status:  # it was killed at all
            outcome.failures += differences(self._ending, ending(output), output)

    def _train_and_kill(self, output: Path, log: Path, aim: str, *, resume: bool) -> int:
        """Train, kill the process, and return its exit status."""
        if aim == "write":
            # A resumed run may have only one checkpoint left to write.
            names = list(enumerate(self._writing))
            names = names[: len(names) // 5] if resume else names
            of_kind = self._draw.choice(WRITING)
            call = self._draw.choice([i for i, name in names if name == of_kind])
            return wait_or_kill(fork(lambda: (die_in_writing(call), self._train(output, resume=resume)), log), LONGEST)
        begin = log.stat().st_size if log.exists() else 0
        process = fork(lambda: self._train(output, resume=resume), log)
        if aim == "start":
            return wait_or_kill(process, self._draw.uniform(0, self._start_up))
        wait_for(STARTED, process, log, begin)
        return wait_or_kill(process, self._draw.uniform(0, self._training))

    def _train(self, output: Path, *, resume: bool, workers: int = 0) -> None:
        cfg = self._kinds.config(self._kind, output, "DATALOADER.NUM_WORKERS", workers)
        run(cfg, train_arguments(cfg, resume))


def finish(process: int, log: Path) -> None:
    """Wait for a run that is not killed, and check that it succeeds."""
    status = wait_or_kill(process, LONGEST)
    if status != 0:
        sys.exit(f"{log}: {'hangs' if status == -9 else 'has failed'}\n{log.read_text()[-3000:]}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="number of kills of each kind of run (default: 20)")
    kinds = f"kinds of runs (default: {' '.join(KINDS)})"
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, metavar="KIND", help=kinds)
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments (default: 0)")
    parser.add_argument("--workers", type=int, default=1, help="loader workers of resumed runs (default: 1)")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(1)
    start = time.monotonic()
    failures = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # A forked process lacks PyTorch's threads, so this process does not compute.
        finish(fork(lambda: RunKinds.create(folder), folder / "data.log"), folder / "data.log")
        kinds = RunKinds.of(folder)
        print(HEADER, flush=True)
        for kind in args.kinds:
            outcome = Killer(kinds, kind, folder / kind, args.seed, args.workers).kill(args.kills)
            print("\n".join([outcome.row(), *outcome.failures]), flush=True)
            failures += outcome.failures
    print(f"{time.monotonic() - start:.0f} s, seed {args.seed}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
