"""Kill training with SIGKILL at random moments, resume it, and compare the results bit by bit.

For each kind of run, one run is not killed. The others are killed one to three times: during the iterations, while a
checkpoint is written, or, after the first kill, during start-up. At the end, their folders must have the same content
as the folder of the run that was not killed.

Example with 20 kills of each kind of run:

    PYTHONPATH=projects/MLICKD:tests OMP_NUM_THREADS=1 python tests/stress/kill_and_resume.py --kills 20
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
import torch.utils.tensorboard  # imported once instead of in each run

from helpers.forked_runs import WRITING, content_digest, count_writing, die_in_writing, fork, wait_for, wait_or_kill
from helpers.processes import parse_arguments
from helpers.run_kinds import KINDS, RunKinds
from mlickd.cli.train_net import run
from mlickd.engine.writers import METRICS

# Numbers of kills of successive runs.
KILLS_OF_RUN = (2, 1, 3)
# Targets of successive kills, of new runs and of resumed runs.
NEW_TARGETS = ("write", "iterations")
RESUMED_TARGETS = ("start", "write", "start", "iterations")
STARTED = "Starting training from iteration "  # in the log
TIMEOUT = 240.0  # seconds; a run that takes longer hangs
# Results that differ between runs: times, values that depend on the folder, and versions.
VARIABLE = ("time", "data_time", "rank_data_time", "eta_seconds", "date", "config", "versions")

HEADER = """| run | killed runs | kills | kills within a checkpoint | kills during a resume | resumed at \
iteration:times | kills that came too late | killed runs equal, bit by bit, to the whole run |
|---|---|---|---|---|---|---|---|"""


class Killer:
    """Kills runs of one kind in a new folder, at random moments that depend on the seed."""

    def __init__(self, kinds: RunKinds, kind: str, folder: Path, seed: int):
        self._kinds, self._kind, self._folder = kinds, kind, folder
        self._random = random.Random(f"{seed} {kind}")
        self._new_targets, self._resumed_targets = cycle(NEW_TARGETS), cycle(RESUMED_TARGETS)
        # Counts of killed runs, of kills after the end of a run, of kills by target, and of resumptions by iteration.
        self._runs = self._missed = 0
        self._kills, self._resumed_at = Counter(), Counter()
        self.failures: list[str] = []  # a line for each killed run that differs from the whole run
        folder.mkdir()
        output, log, calls = (folder / name for name in ("whole", "whole.log", "calls"))
        start = time.monotonic()
        process = fork(lambda: (count_writing(calls), self._train(output, resume=False)), log)
        wait_for(STARTED, process, log)
        self._start_up = time.monotonic() - start
        finish(process, log)
        self._training = time.monotonic() - start - self._start_up
        self._writing, self._results = calls.read_text().split(), read_results(output)

    def kill(self, kills: int) -> str:
        """Kill and resume runs until the number of kills is reached, and return the row of the table."""
        for number, times in zip(range(2 * kills + 5), cycle(KILLS_OF_RUN)):
            left = min(times, kills - self._kills.total())
            if not left:
                break
            self._kill_run(self._folder / f"killed {number}", left)
        else:
            sys.exit(f"{self._kind}: {self._missed} runs had ended before they were killed; give a longer run")
        resumed = " ".join(f"{at}:{count}" for at, count in sorted(self._resumed_at.items()))
        counts = (self._runs, self._kills.total(), self._kills["write"], self._kills["start"], resumed, self._missed)
        equal = f"{self._runs - len(self.failures)} of {self._runs}"
        return f"| {' | '.join(map(str, (self._kind, *counts, equal)))} |"

    def _kill_run(self, output: Path, times: int) -> None:
        log = Path(f"{output}.log")
        for killed in range(times):
            target = next(self._resumed_targets if killed else self._new_targets)
            status = self._train_and_kill(output, log, target, resume=killed > 0)
            if status == 0:
                self._missed += 1
                break
            if status != -9:
                sys.exit(f"{log}: ended with status {status} before it was killed\n{log.read_text()[-3000:]}")
            self._runs += killed == 0
            self._kills[target] += 1
        else:
            finish(fork(lambda: self._train(output, resume=True, workers=1), log), log)
            self._resumed_at[int(log.read_text().rpartition(STARTED)[2].split()[0])] += 1
        if killed or status:  # at least one kill was in time
            self.failures += differences(self._results, read_results(output), output)

    def _train_and_kill(self, output: Path, log: Path, target: str, *, resume: bool) -> int:
        """Train, kill the process, and return its exit status."""
        if target == "write":
            # A resumed run may have only one checkpoint left to write.
            calls = list(enumerate(self._writing))
            calls = calls[: len(calls) // 5] if resume else calls
            function = self._random.choice(WRITING)
            call = self._random.choice([number for number, name in calls if name == function])
            return wait_or_kill(fork(lambda: (die_in_writing(call), self._train(output, resume=resume)), log), TIMEOUT)
        begin = log.stat().st_size if log.exists() else 0
        process = fork(lambda: self._train(output, resume=resume), log)
        if target == "start":
            return wait_or_kill(process, self._random.uniform(0, self._start_up))
        wait_for(STARTED, process, log, begin)
        return wait_or_kill(process, self._random.uniform(0, self._training))

    def _train(self, output: Path, *, resume: bool, workers: int = 0) -> None:
        cfg = self._kinds.config(self._kind, output, "DATALOADER.NUM_WORKERS", workers)
        Path(f"{output}.yaml").write_text(cfg.dump())
        run(cfg, parse_arguments("--config-file", f"{output}.yaml", *["--resume"][: int(resume)]))


def finish(process: int, log: Path) -> None:
    """Wait for a run that is not killed, and check that it succeeds."""
    status = wait_or_kill(process, TIMEOUT)
    if status != 0:
        sys.exit(f"{log}: {'hangs' if status == -9 else 'has failed'}\n{log.read_text()[-3000:]}")


def read_results(output: Path) -> dict[str, object]:
    """Return the results in the folder of a run by name, without `VARIABLE`, and with all values of checkpoints."""
    for path in output.glob("*.previous*.pth"):
        path.unlink()  # of a run that was killed between its first checkpoint and `last_checkpoint`, and began again
    results: dict[str, object] = {path.name: content_digest(path) for path in sorted(output.glob("*.pth"))}
    # Losses are smoothed over the iterations of one process, so only their names can be compared.
    exact = ("iteration", "lr")
    results[METRICS] = [
        {name: value if "/" in name or name in exact else "smoothed" for name, value in constant(line).items()}
        for line in (output / METRICS).read_text().splitlines()
    ]
    for path in output.rglob("*results.json"):
        results[str(path.relative_to(output))] = constant(path.read_text())
    for path in output.rglob("*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            content = [(name, array.dtype, array.shape, array.tobytes()) for name, array in sorted(arrays.items())]
        results[str(path.relative_to(output))] = content
    results["last_checkpoint"] = (output / "last_checkpoint").read_text()
    names = (path.relative_to(output) for path in output.rglob("*"))
    results["files"] = sorted(str(name) for name in names if not name.name.startswith("events."))
    return results


def constant(text: str) -> dict[str, object]:
    """Return a JSON object without `VARIABLE`."""
    return {name: value for name, value in json.loads(text).items() if name not in VARIABLE}


def differences(expected: dict[str, object], found: dict[str, object], output: Path) -> list[str]:
    """Return a line that names the results that differ, if there are any."""
    names = sorted(name for name in expected.keys() | found.keys() if found.get(name) != expected.get(name))
    return [f"{output}: other content of {', '.join(names)}"] if names else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="number of kills of each kind of run (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments (default: 0)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    start = time.monotonic()
    failures = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # A fork does not have the threads of PyTorch, so only forks compute, never this process.
        finish(fork(lambda: RunKinds.create(folder), folder / "data.log"), folder / "data.log")
        kinds = RunKinds.open(folder)
        print(HEADER, flush=True)
        for kind in KINDS:
            killer = Killer(kinds, kind, folder / kind, args.seed)
            print("\n".join([killer.kill(args.kills), *killer.failures]), flush=True)
            failures += killer.failures
    print(f"{time.monotonic() - start:.0f} s, seed {args.seed}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
