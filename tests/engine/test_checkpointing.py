"""Checkpoints of a run: written atomically, checked, pruned, and in Detectron2's format."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from fvcore.common.checkpoint import Checkpointer
from torch import nn

from helpers.limits import largest_file
from mlickd.engine.checkpointing import RunCheckpointer, check_initial_weights, decide_to_resume
from mlickd.errors import InputError


class Run:
    """A model and a trainer with the iteration as their weight, and their checkpoints."""

    def __init__(self, folder: Path, keep: int = 0):
        self.model, self.trainer = nn.Linear(1, 1), nn.Linear(1, 1)
        self.checkpointer = RunCheckpointer(self.model, str(folder), keep=keep, trainer=self.trainer)

    def save(self, *iterations: int, name: str = "model_{:07d}") -> None:
        for iteration in iterations:
            for part in (self.model, self.trainer):
                nn.init.constant_(part.weight, iteration)
            self.checkpointer.save(name.format(iteration), iteration=iteration)

    def resumed(self) -> int:
        self.checkpointer.resume()
        assert self.model.weight.item() == self.trainer.weight.item()
        return self.model.weight.item()


def flip_a_bit(path: Path) -> None:
    # A bit of a weight, which torch.load does not notice.
    content = bytearray(path.read_bytes())
    place = content.index(torch.tensor(3.0).numpy().tobytes())
    content[place] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def test_detectron2_resumes_from_our_checkpoints_and_vice_versa(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.save(1, 3)
    for kind in (DetectionCheckpointer, Checkpointer):
        model, trainer = nn.Linear(1, 1), nn.Linear(1, 1)
        rest = kind(model, str(tmp_path), trainer=trainer).resume_or_load("", resume=True)
        assert model.weight.item() == trainer.weight.item() == rest["iteration"] == 3
    DetectionCheckpointer(run.model, str(tmp_path), trainer=run.trainer).save("model_0000004", iteration=4)
    assert Run(tmp_path).checkpointer.resume() == "model_0000004.pth"
    cut(tmp_path / "model_0000004.pth")
    assert Run(tmp_path).checkpointer.resume() == "model_0000003.pth"
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000003.pth"


@pytest.mark.parametrize("damage", [flip_a_bit, cut, os.remove])
def test_a_damaged_checkpoint_is_replaced_by_the_one_before(damage: Callable, tmp_path: Path, caplog) -> None:
    Run(tmp_path).save(1, 3)
    damage(tmp_path / "model_0000003.pth")
    run = Run(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert run.resumed() == 1
    assert "model_0000003.pth is" in caplog.text
    assert Run(tmp_path).resumed() == 1, "the run was killed before it saved again"
    run.save(3)
    assert Run(tmp_path).resumed() == 3


def test_a_path_is_not_a_url_and_other_files_are_not_checkpoints(tmp_path: Path) -> None:
    tmp_path = tmp_path / "a?b#c"
    tmp_path.mkdir()
    Run(tmp_path).save(1, 3)
    assert decide_to_resume(str(tmp_path), True) and Run(tmp_path).resumed() == 3
    torch.save({"model": {}}, tmp_path / "model_0000003.pth")
    with pytest.raises(InputError, match=r"--resume .*model_0000003.pth"):
        Run(tmp_path).resumed()


def test_a_run_keeps_its_newest_checkpoints_and_the_final_one(tmp_path: Path) -> None:
    run = Run(tmp_path, keep=2)
    run.save(1, 3, 5)
    run.save(7, name="model_final")
    again = Run(tmp_path, keep=2)
    assert again.resumed() == 7
    again.save(9)
    kept = {path.name for path in tmp_path.glob("*.pth")}
    assert kept == {"model_0000005.pth", "model_0000009.pth", "model_final.pth"}


def test_a_new_run_never_continues_from_an_earlier_run(tmp_path: Path) -> None:
    Run(tmp_path).save(1, 3)
    run = Run(tmp_path)
    run.checkpointer.rename_earlier_run()
    assert not decide_to_resume(str(tmp_path), True)
    run.save(0, 2)
    cut(tmp_path / "model_0000000.pth")
    cut(tmp_path / "model_0000002.pth")
    with pytest.raises(InputError, match=r"--resume.*model_0000002.pth .*model_0000000.pth "):
        Run(tmp_path).resumed()
    assert (tmp_path / "model_0000003.previous.pth").exists(), "only the user removes it"


def test_final_models_of_earlier_runs_get_other_names(tmp_path: Path) -> None:
    (tmp_path / "student.pth").write_bytes(b"a student")
    for iteration in (3, 5, 7):
        Run(tmp_path).checkpointer.rename_earlier_run()
        Run(tmp_path).save(iteration, name="model_final")
    paths = [tmp_path / f"model_final{name}.pth" for name in (".previous", ".previous2", "")]
    kept = [torch.load(path, weights_only=True)["iteration"] for path in paths]
    assert kept == [3, 5, 7] and (tmp_path / "student.previous.pth").exists()


def test_a_new_run_that_is_killed_early_does_not_continue_from_an_earlier_run(tmp_path: Path, monkeypatch) -> None:
    Run(tmp_path).save(1)

    def killed(path: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            Run(tmp_path).checkpointer.rename_earlier_run()
    assert not decide_to_resume(str(tmp_path), True)
    Run(tmp_path).checkpointer.rename_earlier_run()
    assert [path.name for path in tmp_path.iterdir()] == ["model_0000001.previous.pth"]


def test_a_run_does_not_start_from_a_checkpoint_that_it_renames(tmp_path: Path) -> None:
    for name in ("model_0000001.pth", "model_final.pth", "student.pth"):
        path = tmp_path / "run" / name
        (tmp_path / f"link {name}").symlink_to(path)
        for weights in (path, tmp_path / f"link {name}"):
            with pytest.raises(InputError, match=f"KEY {weights}: .*OUTPUT_DIR"):
                check_initial_weights(tmp_path / "run", str(weights), "KEY")
        check_initial_weights(tmp_path / "other", str(path), "KEY")
    check_initial_weights(tmp_path / "run", str(tmp_path / "run" / "model_final.previous.pth"), "KEY")


def test_damaged_files_do_not_count_for_the_limit(tmp_path: Path) -> None:
    run = Run(tmp_path, keep=2)
    run.save(3, 7, 8)
    cut(tmp_path / "model_0000008.pth")
    run = Run(tmp_path, keep=2)
    assert run.resumed() == 7
    run.save(11)
    cut(tmp_path / "model_0000011.pth")
    assert Run(tmp_path).resumed() == 7
    (tmp_path / "last_checkpoint").write_text("")
    assert Run(tmp_path).resumed() == 7, "without a name in the tag, the newest counts"


def test_unfinished_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    Run(tmp_path).save(1)
    unfinished = [tmp_path / "model_0000003.pth.unfinished", tmp_path / "inference/test/scores.npz.0a1b.unfinished"]
    of_another_run = tmp_path / "another/model_0000003.pth.unfinished"
    for path in (*unfinished, of_another_run):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    assert Run(tmp_path).resumed() == 1
    assert not any(path.exists() for path in unfinished) and of_another_run.exists()


def test_a_full_disk_is_one_line_and_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.save(1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    run.checkpointer.model = nn.Linear(100_000, 1)
    with largest_file(100_000), pytest.raises(InputError, match=r"model_0000003.pth: .*model_0000001.pth is complete"):
        run.checkpointer.save("model_0000003", iteration=3)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
