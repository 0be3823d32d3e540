"""A request to stop ends training in order."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from detectron2.engine import HookBase
from torch import nn

from helpers.forked_runs import fork, wait_or_kill
from helpers.processes import in_two_processes, stop_the_second
from helpers.small_trainer import finish, make_trainer
from mlickd.engine.checkpointing import RunCheckpointer
from mlickd.engine.hooks import StopHook


class Request(HookBase):
    """Sends a signal to this process within an iteration."""

    def __init__(self, kind: signal.Signals, iteration: int):
        self.kind, self.iteration = kind, iteration

    def before_step(self) -> None:
        if self.trainer.iter == self.iteration:
            os.kill(os.getpid(), self.kind)


@pytest.mark.parametrize(
    ("kind", "iteration", "left"),
    [
        (signal.SIGTERM, 0, "model_0000000.pth"),
        (signal.SIGINT, 1, "model_0000001.pth"),
        (signal.SIGTERM, 3, "model_final.pth"),
    ],
    ids=["between two checkpoints", "at a checkpoint", "in the last iteration"],
)
def test_the_iteration_is_finished_and_the_run_can_be_resumed(
    kind: signal.Signals, iteration: int, left: str, tiny_scenes: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    options = ("MODEL.CLASSIFIER.DROPOUT", 0.5, "TENSORBOARD.IMAGES", 0)
    whole = finish(make_trainer(tmp_path / "whole", *options), resume=False)
    before = signal.getsignal(kind)
    trainer = make_trainer(tmp_path / "stopped", *options)
    trainer.register_hooks([Request(kind, iteration)])
    with pytest.raises(SystemExit) as caught:
        finish(trainer, resume=False)
    assert caught.value.code == 128 + kind and signal.getsignal(kind) == before
    assert f"{kind.name}: training stops after this iteration" in capfd.readouterr().err
    assert (tmp_path / "stopped" / "last_checkpoint").read_text() == left
    assert not (tmp_path / "stopped" / "results.json").exists(), "a run that is to stop is not evaluated first"
    resumed = make_trainer(tmp_path / "stopped", *options)
    result = finish(resumed, resume=True)
    assert resumed.start_iter == iteration + 1 and (tmp_path / "stopped" / "results.json").exists()
    assert all(torch.equal(value, whole[name]) for name, value in result.items())


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_ctrl_c_ends_the_process_at_once_and_what_is_passed_on_does_not(
    first: signal.Signals, tmp_path: Path
) -> None:
    def work() -> None:
        hook = StopHook(RunCheckpointer(nn.Linear(1, 1), str(tmp_path)))
        hook.before_train()
        os.kill(os.getpid(), first)
        os.kill(os.getpid(), signal.SIGINT)  # a launcher passes it on
        time.sleep(1.1)
        os.kill(os.getpid(), signal.SIGTERM)  # a scheduler, or a launcher that has waited for something else
        (tmp_path / "goes on").touch()
        os.kill(os.getpid(), signal.SIGINT)
        (tmp_path / "goes on again").touch()

    assert wait_or_kill(fork(work, tmp_path / "log"), 60) == -signal.SIGINT
    assert (tmp_path / "goes on").exists() and not (tmp_path / "goes on again").exists()


def test_a_first_ctrl_c_some_time_after_a_request_of_the_system_is_no_second_one(tmp_path: Path) -> None:
    def work() -> None:
        hook = StopHook(RunCheckpointer(nn.Linear(1, 1), str(tmp_path)))
        hook.before_train()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1.1)
        os.kill(os.getpid(), signal.SIGINT)
        (tmp_path / "goes on").touch()

    assert wait_or_kill(fork(work, tmp_path / "log"), 60) == 0
    assert (tmp_path / "goes on").exists()


def test_all_processes_stop_after_the_same_iteration(tmp_path: Path) -> None:
    """The second one alone is asked to; nothing is pickled for that. It stays until the first one has saved."""
    with pytest.raises(SystemExit) as end:
        in_two_processes(stop_the_second, tmp_path)
    assert end.value.code == 128 + signal.SIGTERM
    assert sorted(path.name for path in tmp_path.glob("process*")) == [
        "process 0 after 2, saved",
        "process 1 after 2, saved",
    ]


def test_a_signal_that_is_ignored_stays_so(tmp_path: Path) -> None:
    def work() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        hook = StopHook(RunCheckpointer(nn.Linear(1, 1), str(tmp_path)))
        hook.before_train()
        os.kill(os.getpid(), signal.SIGINT)
        hook.after_step()

    assert wait_or_kill(fork(work, tmp_path / "log"), 60) == 0
