"""A run that was killed or stopped continues, and ends like an uninterrupted run."""

import json
import os
import signal
import time
from itertools import count
from pathlib import Path

import pytest
import torch

from helpers.forked_runs import fork, wait_or_kill
from helpers.processes import in_two_processes, stop_the_second
from helpers.small_trainer import finish, make_trainer
from mlickd.data.mapper import MultiLabelMapper
from mlickd.engine.checkpointing import decide_to_resume, saved_checkpoints
from mlickd.engine.hooks import StopHook
from mlickd.errors import InputError


@pytest.mark.parametrize(
    "options",
    [
        ("SOLVER.OPTIMIZER", "ADAMW", "SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.GRAD_ACCUM_STEPS", 2),
        ("SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "bfloat16", "MODEL.DEVICE", "cpu", "SEED", 7),
    ],
    ids=["adamw, clipped, in parts", "bfloat16"],
)
def test_a_resumed_run_ends_like_the_whole_run(options: tuple, tiny_scenes: Path, tmp_path: Path) -> None:
    whole = finish(make_trainer(tmp_path / "whole", *options))
    stopped = make_trainer(tmp_path / "stopped", *options)
    stopped.max_iter = 2
    half = {name: value.clone() for name, value in finish(stopped).items()}
    resumed = make_trainer(tmp_path / "stopped", *options)
    result = finish(resumed, resume=True)
    assert resumed.start_iter == 2
    assert all(value.dtype != torch.bfloat16 for value in result.values())
    assert all(torch.equal(value, whole[name]) for name, value in result.items())
    assert not all(torch.equal(value, half[name]) for name, value in result.items())


def test_a_resumed_finished_run_is_evaluated_again(tiny_scenes: Path, tmp_path: Path) -> None:
    def final_line() -> dict:
        (*_, line) = map(json.loads, (tmp_path / "metrics.json").read_text().splitlines())
        return line

    finish(make_trainer(tmp_path, "TENSORBOARD.IMAGES", 0))
    # The files of a run that is killed during the evaluation, before the final checkpoint.
    expected, checkpoint = final_line(), (tmp_path / "model_final.pth")
    weights = torch.load(checkpoint, weights_only=True)["model"]
    checkpoint.unlink()
    (tmp_path / "last_checkpoint").write_text("model_0000003.pth")
    count = len((tmp_path / "metrics.json").read_text().splitlines())
    with (tmp_path / "metrics.json").open("a") as file:
        file.write('{"iteration": 4, "multilabel/mA')
    finish(make_trainer(tmp_path, "TENSORBOARD.IMAGES", 0), resume=True)
    assert final_line() == expected and expected["iteration"] == 4
    assert len((tmp_path / "metrics.json").read_text().splitlines()) == count
    again = torch.load(checkpoint, weights_only=True)["model"]
    assert all(torch.equal(value, again[name]) for name, value in weights.items())

    with pytest.raises(InputError, match=r"--resume .* missing: backbone.conv1_2"):
        make_trainer(tmp_path, "MODEL.VGG.DEPTH", 13).resume_or_load(resume=True)
    make_trainer(tmp_path).resume_or_load(resume=False)
    assert not decide_to_resume(str(tmp_path), True), "if it is killed now, it starts from the beginning"
    assert not (tmp_path / "metrics.json").read_text()


def test_metrics_of_an_evaluation_are_written_before_the_checkpoint(tiny_scenes: Path, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, "TEST.EVAL_PERIOD", 2, "SOLVER.MAX_ITER", 6)
    seen = {}
    save = trainer.checkpointer.save

    def look_and_save(name: str, **rest: object) -> None:
        seen[name] = (tmp_path / "metrics.json").read_text()
        save(name, **rest)

    trainer.checkpointer.save = look_and_save
    finish(trainer)
    lines = [json.loads(line) for line in seen["model_0000003"].splitlines()]
    assert [line["iteration"] for line in lines if "multilabel/mAP" in line] == [1, 3]


@pytest.mark.parametrize(
    ("kind", "iteration", "left"),
    [
        (signal.SIGTERM, 0, "model_0000000.pth"),
        (signal.SIGINT, 1, "model_0000001.pth"),
        (signal.SIGTERM, 3, "model_final.pth"),
    ],
    ids=["between two checkpoints", "at a checkpoint", "in the last iteration"],
)
def test_a_run_stopped_by_a_signal_can_be_resumed(
    kind, iteration: int, left: str, tiny_scenes, tmp_path, capfd
) -> None:
    options = ("MODEL.CLASSIFIER.DROPOUT", 0.5, "TENSORBOARD.IMAGES", 0)
    whole = finish(make_trainer(tmp_path / "whole", *options))
    before = signal.getsignal(kind)
    trainer = make_trainer(tmp_path / "stopped", *options)
    step = trainer.run_step
    trainer.run_step = lambda: (trainer.iter == iteration and os.kill(os.getpid(), kind), step())
    with pytest.raises(SystemExit) as caught:
        finish(trainer)
    assert caught.value.code == 128 + kind and signal.getsignal(kind) == before
    assert kind.name in capfd.readouterr().err
    assert (tmp_path / "stopped" / "last_checkpoint").read_text() == left
    assert not (tmp_path / "stopped" / "results.json").exists(), "a stopped run is not evaluated first"
    resumed = make_trainer(tmp_path / "stopped", *options)
    result = finish(resumed, resume=True)
    assert resumed.start_iter == iteration + 1 and (tmp_path / "stopped" / "results.json").exists()
    assert all(torch.equal(value, whole[name]) for name, value in result.items())


@pytest.mark.parametrize(
    ("ignored", "sent", "status"),
    [
        ((), [signal.SIGINT, signal.SIGINT, 1.1, signal.SIGTERM, "continues", signal.SIGINT, "late"], -signal.SIGINT),
        ((), [signal.SIGTERM, 1.1, signal.SIGINT, "continues"], 0),
        ((signal.SIGINT,), [signal.SIGINT, 1.1, signal.SIGINT, "continues"], 0),
    ],
    ids=["a second Ctrl-C", "a first Ctrl-C after SIGTERM", "ignored"],
)
def test_only_a_second_ctrl_c_ends_the_process_at_once(ignored: tuple, sent: list, status: int, tmp_path: Path) -> None:
    def work() -> None:
        for kind in ignored:
            signal.signal(kind, signal.SIG_IGN)
        StopHook().before_train()
        for item in sent:
            if isinstance(item, signal.Signals):
                os.kill(os.getpid(), item)
            elif isinstance(item, float):
                time.sleep(item)
            else:
                (tmp_path / item).touch()

    assert wait_or_kill(fork(work, tmp_path / "log"), 60) == status
    assert (tmp_path / "continues").exists() and not (tmp_path / "late").exists()


# In training, and before the first iteration.
@pytest.mark.parametrize(("workers", "images", "left"), [(1, 12, "model_0000002"), (0, 0, "")])
def test_a_signal_ends_a_run_whose_loader_is_stuck(workers: int, images: int, left, tiny_scenes, tmp_path) -> None:
    def work() -> None:
        run, load, calls = os.getpid(), MultiLabelMapper.__call__, count()

        def load_or_hang(*arguments: object) -> dict:
            if next(calls) == images:
                while workers and not (tmp_path / "stopped" / "model_0000001.pth").exists():
                    time.sleep(0.02)
                time.sleep(workers)  # until the run waits for this image
                os.kill(run, signal.SIGTERM)
                time.sleep(1000)
            return load(*arguments)

        MultiLabelMapper.__call__ = load_or_hang
        finish(make_trainer(tmp_path / "stopped", "DATALOADER.NUM_WORKERS", workers, "TENSORBOARD.IMAGES", 0))

    assert wait_or_kill(fork(work, tmp_path / "log"), 60) == 128 + signal.SIGTERM, (tmp_path / "log").read_text()
    assert saved_checkpoints(tmp_path / "stopped")[:1] == [f"{left}.pth"][: bool(left)]
    whole = finish(make_trainer(tmp_path / "whole"))
    result = finish(make_trainer(tmp_path / "stopped"), resume=True)
    assert all(torch.equal(value, whole[name]) for name, value in result.items())


def test_all_processes_stop_after_the_same_iteration(tmp_path: Path) -> None:
    """Only the second process gets a signal. It waits until the first has saved; nothing is pickled."""
    with pytest.raises(SystemExit) as end:
        in_two_processes(stop_the_second, tmp_path)
    assert end.value.code == 128 + signal.SIGTERM
    expected = [f"process {rank} {when}, saved" for rank in (0, 1) for when in ("stopped after 2", "stuck after 1")]
    assert sorted(path.name for path in tmp_path.glob("process*")) == expected
