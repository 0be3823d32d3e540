"""Training that is killed with SIGKILL at random moments and resumed ends like a whole run, bit by bit.

Runs of each kind are killed one to three times: during the iterations, while a checkpoint is written, or, after the
first kill, during start-up. `make test-kill` sets the number of kills of each kind.
"""

import json
import os
import random
import time
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import torch.utils.tensorboard  # noqa: F401, imported once instead of in each run

from helpers.forked_runs import WRITING, content_digest, count_writing, die_in_writing, fork, wait_for, wait_or_kill
from helpers.run_kinds import KINDS, RunKinds, train_arguments
from mlickd.cli.train_net import run
from mlickd.engine.writers import METRICS

KILLS = int(os.environ.get("KILLS", 3))
# Numbers of kills of successive runs.
KILLS_OF_RUN = (2, 1, 3)
# Targets of successive kills, of new runs and of resumed runs.
NEW_TARGETS = ("write", "iterations")
RESUMED_TARGETS = ("start", "write", "start", "iterations")
STARTED = "Starting training from iteration "  # in the log
TIMEOUT = 240.0  # seconds; a run that takes longer hangs
# Results that differ between runs: times, values that depend on the folder, and versions.
VARIABLE = ("time", "data_time", "rank_data_time", "eta_seconds", "date", "config", "versions")


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", "")  # `RunKinds.create` sets it
        yield RunKinds.create(tmp_path_factory.mktemp("kinds"))


@pytest.mark.parametrize("kind", KINDS)
def test_killed_runs_end_like_a_whole_run(kind: str, kinds: RunKinds, tmp_path: Path) -> None:
    def train(output: Path, resume: bool, workers: int = 0) -> None:
        cfg = kinds.config(kind, output, "DATALOADER.NUM_WORKERS", workers)
        run(cfg, train_arguments(cfg, resume))

    def train_and_kill(output: Path, log: Path, target: str, resume: bool) -> int:
        """Train, kill the process, and return its exit status."""
        if target == "write":
            # A resumed run may have only one checkpoint left to write.
            calls = list(enumerate(writing[: len(writing) // 5] if resume else writing))
            function = chance.choice(WRITING)
            call = chance.choice([number for number, name in calls if name == function])
            return wait_or_kill(fork(lambda: (die_in_writing(call), train(output, resume)), log), TIMEOUT)
        begin = log.stat().st_size if log.exists() else 0
        process = fork(partial(train, output, resume), log)
        if target == "iterations":
            wait_for(STARTED, process, log, begin)
        return wait_or_kill(process, chance.uniform(0, seconds[target]))

    whole, log, calls = tmp_path / "whole", tmp_path / "whole.log", tmp_path / "calls"
    begin = time.monotonic()
    process = fork(lambda: (count_writing(calls), train(whole, False)), log)
    wait_for(STARTED, process, log)
    seconds = {"start": time.monotonic() - begin}
    finish(process, log)
    seconds["iterations"] = time.monotonic() - begin - seconds["start"]
    writing, expected = calls.read_text().split(), read_results(whole)
    chance, kills = random.Random(kind), 0
    new_targets, resumed_targets = cycle(NEW_TARGETS), cycle(RESUMED_TARGETS)
    for number, times in zip(range(2 * KILLS + 5), cycle(KILLS_OF_RUN)):
        output, log = tmp_path / f"killed {number}", tmp_path / f"killed {number}.log"
        for resume in range(min(times, KILLS - kills)):
            status = train_and_kill(output, log, next(resumed_targets if resume else new_targets), resume > 0)
            if status == 0:  # the kill was too late
                break
            assert status == -9, f"{log}\n{log.read_text()[-3000:]}"
            kills += 1
        else:
            finish(fork(partial(train, output, True, 1), log), log)
        found = read_results(output)
        different = [name for name in expected.keys() | found.keys() if found.get(name) != expected.get(name)]
        assert not different, f"{output}: other content of {', '.join(sorted(different))}"
        if kills == KILLS:
            return
    pytest.fail("the runs end before they are killed; give longer runs")


def finish(process: int, log: Path) -> None:
    """Wait for a run that is not killed, and check that it succeeds."""
    status = wait_or_kill(process, TIMEOUT)
    assert status == 0, f"{log}: {'hangs' if status == -9 else 'has failed'}\n{log.read_text()[-3000:]}"


def read_results(output: Path) -> dict[str, object]:
    """Return the results in the folder of a run by name, without `VARIABLE`, and with all values of checkpoints."""
    for path in output.glob("*.previous.pth"):
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
