"""Several steps at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from mlickd.studies.scheduling import run_steps
from mlickd.studies.steps import Step, StepRunner

SCRIPT = """
import pathlib, sys, time
folder, name, *others = sys.argv[1:]
folder = pathlib.Path(folder)
start = time.time()
if name == "bad":
    sys.exit("error: no memory")
# Wait for those that are to run at the same time.
(folder / f"{name}.begun").touch()
while not all((folder / f"{other}.begun").exists() for other in others):
    if time.time() > start + 20:
        sys.exit("error: alone")
    time.sleep(0.02)
(folder / name).write_text(str(time.time()))
"""


def make_step(folder: Path, name: str, beside: Sequence[str] = (), after: Sequence[Step] = ()) -> Step:
    script = folder / "step.py"
    script.write_text(SCRIPT)
    return Step(name, name.capitalize(), [str(script), str(folder), name, *beside], folder / name, folder, after=after)


def test_steps_run_together_and_behind_those_that_they_need(tmp_path: Path) -> None:
    first = make_step(tmp_path, "first", beside=["second"])
    second = make_step(tmp_path, "second", beside=["first"])
    third = make_step(tmp_path, "third", after=[first, second])
    assert run_steps([third, first, second], StepRunner(bar=False), jobs=2) == {}
    times = {name: float((tmp_path / name).read_text()) for name in ("first", "second", "third")}
    assert times["third"] > max(times["first"], times["second"])


def test_a_failure_stops_what_needs_it_and_nothing_else(tmp_path: Path) -> None:
    bad = make_step(tmp_path, "bad")
    behind = make_step(tmp_path, "behind", after=[bad])
    last = make_step(tmp_path, "last", after=[behind])
    good = make_step(tmp_path, "good")
    failures = run_steps([bad, behind, last, good], StepRunner(bar=False))
    assert list(failures) == [bad.key, behind.key, last.key]
    assert "Bad has failed with status 1: error: no memory (see" in failures[bad.key]
    assert failures[last.key].startswith("Last was not run: Behind was not run: Bad has failed")
    assert (tmp_path / "good").exists() and not (tmp_path / "behind").exists()


def test_a_request_to_end_ends_what_runs(tmp_path: Path) -> None:
    endless = make_step(tmp_path, "endless", beside=["nobody"])

    def ask() -> None:
        while not (tmp_path / "endless.begun").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=ask).start()
    start = time.time()
    runner = StepRunner(bar=False)
    with pytest.raises(KeyboardInterrupt):
        run_steps([endless, make_step(tmp_path, "next")], runner)
    assert time.time() - start < 15, "it would have waited for 20 s"
    assert runner.state(endless).failure == "" and not (tmp_path / "next").exists()


def test_a_step_behind_one_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    lost = make_step(tmp_path, "lost", after=[make_step(tmp_path, "elsewhere")])
    with pytest.raises(ValueError, match="not among them"):
        run_steps([lost], StepRunner(bar=False))
