"""Kill training with SIGKILL at random moments, resume it, and compare what it ends with, bit by bit.

For each kind of run: one run is left alone; then runs are killed, some within the write of a checkpoint, and each is
resumed until it has finished. Its last checkpoint, its student and its curves must be those of the run left alone.

Example:

  All five kinds, 20 kills each, half of them aimed at the writing of checkpoints:
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
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.utils.tensorboard  # here once, in place of once in each run

from helpers.forked_runs import WRITING, content_digest, count_writing, die_in_writing, fork, wait_or_kill
from helpers.run_kinds import KINDS, RunKinds, train_arguments
from mlickd.commands.train_net import run


@dataclass
class Outcome:
    """What became of the killed runs of one kind.

    Attributes:
        kills: how many there were.
        in_write: of them, those that left a checkpoint half written.
        resumed_at: how often from which iteration.
        failures: what was not as in the run left alone.
    """

    kind: str
    kills: int = 0
    in_write: int = 0
    resumed_at: Counter = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def row(self) -> str:
        """For the table."""
        started = " ".join(f"{at}:{count}" for at, count in sorted(self.resumed_at.items()))
        equal = f"{self.kills - len(self.failures)} of {self.kills}"
        return f"| {self.kind} | {self.kills} | {self.in_write} | {started} | {equal} |"


HEADER = """| run | kills | within a checkpoint | resumed at iteration:times | ended bit by bit as the whole run |
|---|---|---|---|---|"""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each kind of run (default: 20)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, metavar="KIND", help=f"of {KINDS}")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--workers", type=int, default=0, help="of the data loader, in runs that go on (default: 0)")
    return parser.parse_args()


def kill_runs(kinds: RunKinds, kind: str, folder: Path, args: argparse.Namespace) -> Outcome:
    """Kill runs of one kind, every second one within a write."""
    folder.mkdir()
    draw = random.Random(f"{args.seed} {kind}")
    whole, calls = folder / "whole", folder / "calls"

    def train(output: Path, *, resume: bool, workers: int = 0) -> None:
        cfg = kinds.config(kind, output, "DATALOADER.NUM_WORKERS", workers)
        run(cfg, train_arguments(cfg, resume))

    def work() -> None:
        count_writing(calls)
        train(whole, resume=False)

    process = fork(work, folder / "whole.log")
    wait_for_start(process, whole)
    start = time.monotonic()
    finish(process, folder / "whole.log")
    seconds, made = time.monotonic() - start, calls.read_text().split()
    expected, outcome = ending(whole), Outcome(kind)
    while outcome.kills < args.kills:
        output, log = folder / f"killed {outcome.kills}", folder / f"killed {outcome.kills}.log"
        if outcome.kills % 2:
            of_kind = draw.choice(WRITING)
            call = draw.choice([i for i, name in enumerate(made) if name == of_kind])
            process = fork(lambda: (die_in_writing(call), train(output, resume=False)), log)  # noqa: B023, runs at once
            status = wait_or_kill(process)
        else:
            process = fork(lambda: train(output, resume=False), log)  # noqa: B023, runs at once
            # What comes before the first iteration takes longer than all of them, and there is little to lose in it.
            if draw.random() < 0.75:
                wait_for_start(process, output)
            status = wait_or_kill(process, draw.uniform(0, seconds))
        if status == 0:
            continue  # it was quicker than the one before; the same folder starts anew
        if status != -9:
            sys.exit(f"{log}: ended with status {status} before it was killed")
        outcome.kills += 1
        outcome.in_write += left_half_written(output)
        finish(fork(lambda: train(output, resume=True, workers=args.workers), log), log)  # noqa: B023, runs at once
        outcome.resumed_at[start_of_last(log)] += 1
        outcome.failures += differences(expected, ending(output), output)
    return outcome


def wait_for_start(process: int, output: Path) -> None:
    """Wait for a run to begin with its iterations, or to end."""
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT  # without taking its status away from who waits for it
    while not (output / "metrics.json").exists() and os.waitid(os.P_PID, process, ended) is None:
        time.sleep(0.001)


def finish(process: int, log: Path) -> None:
    """Wait for a run that nobody kills."""
    if wait_or_kill(process) != 0:
        sys.exit(f"{log}: has failed\n{log.read_text()[-3000:]}")


def left_half_written(output: Path) -> bool:
    """Whether what stands in the folder of a killed run is in the middle of a checkpoint."""
    if list(output.glob("*.unfinished")):
        return True
    digests = output / "checkpoints.json"
    saved = list(json.loads(digests.read_text())) if digests.exists() else []
    last = output / "last_checkpoint"
    tagged = [last.read_text()] if last.exists() else []
    stray = {path.name for path in output.glob("model_*.pth")} - set(saved)
    return bool(stray) or saved[-1:] != tagged or not all((output / name).exists() for name in saved)


def start_of_last(log: Path) -> int:
    """The iteration from which a resumed run went on, by its own word."""
    return int(log.read_text().rpartition("Starting training from iteration ")[2].split()[0])


def ending(output: Path) -> dict[str, object]:
    """All that must not depend on whether a run was killed."""
    found: dict[str, object] = {path.name: content_digest(path) for path in sorted(output.glob("*.pth"))}
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    # Losses are smoothed over what a process has seen of them, times are times; the rest is exact.
    found["metrics.json"] = [
        {name: value for name, value in line.items() if "/" in name or name in ("iteration", "lr")} for line in lines
    ]
    found["results.json"] = (output / "results.json").read_text() if (output / "results.json").exists() else ""
    found["files"] = sorted(path.name for path in output.iterdir() if not path.name.startswith("events."))
    return found


def differences(expected: dict[str, object], found: dict[str, object], output: Path) -> list[str]:
    """One line if something differs."""
    names = [name for name in sorted(expected.keys() | found.keys()) if expected.get(name) != found.get(name)]
    described = [f"{name} is {found.get(name)!s:.200} in place of {expected.get(name)!s:.200}" for name in names]
    return [f"{output}: {'; '.join(described)}"] if names else []


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(1)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Where PyTorch has computed, it has threads, which a forked process would miss: all that computes is forked.
        finish(fork(lambda: RunKinds.create(folder), folder / "data.log"), folder / "data.log")
        kinds = RunKinds.of(folder)
        print(HEADER, flush=True)
        outcomes = []
        for kind in args.kinds:
            outcomes.append(kill_runs(kinds, kind, folder / kind, args))
            print(outcomes[-1].row(), flush=True)
            for failure in outcomes[-1].failures:
                print(failure, flush=True)
    failures = [failure for outcome in outcomes for failure in outcome.failures]
    print(f"{time.monotonic() - start:.0f} s, seed {args.seed}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
