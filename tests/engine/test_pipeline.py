"""The row of commands that a pipeline runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlickd.engine.pipeline import Pipeline, Step, _run_with_progress
from mlickd.errors import InputError


def make_pipeline(folder: Path) -> Pipeline:
    return Pipeline(Path("configs/folder"), "a_train", "a_test", folder, seed=3, options=["SOLVER.MAX_ITER", "5"])


def test_every_step_shares_data_seed_and_options(tmp_path: Path) -> None:
    steps = make_pipeline(tmp_path).training_steps()
    assert [step.name for step in steps] == ["teacher", "without", "knowledge", "with/feature", "with/prediction"]
    for step in steps:
        command = step.command
        values = dict(zip(command[-2::-2], command[:0:-2], strict=False))
        assert values["DATASETS.TRAIN"] == "('a_train',)" and values["SEED"] == "3"
        assert values["SOLVER.MAX_ITER"] == "5"
    for stage, step in zip(("feature", "prediction"), steps[3:], strict=True):
        assert step.command[step.command.index("--kd-stage") + 1] == stage
        assert str(tmp_path / "teacher" / "model_final.pth") in step.command
        assert str(tmp_path / "knowledge") in step.command and str(tmp_path / "knowledge") in steps[2].command
        left = {"feature": "student.pth", "prediction": "results.json"}[stage]
        assert step.result == tmp_path / "with" / stage / left


def test_a_finished_teacher_is_taken_as_it_is(tmp_path: Path) -> None:
    pipeline = make_pipeline(tmp_path)
    pipeline.teacher = tmp_path / "other"
    steps = pipeline.training_steps()
    assert [step.name for step in steps] == ["without", "knowledge", "with/feature", "with/prediction"]
    assert all(str(tmp_path / "other" / "model_final.pth") in step.command for step in steps[1:])
    assert all(str(tmp_path.parent / "knowledge") in step.command for step in steps[1:]), "all seeds share it"


def test_a_finished_step_is_run_again_only_where_something_has_changed(tmp_path: Path) -> None:
    script = tmp_path / "step.py"
    script.write_text(
        f"open({str(tmp_path / 'runs')!r}, 'a').write('x'); open({str(tmp_path / 'done')!r}, 'w').close()"
    )
    pipeline = make_pipeline(tmp_path)
    runs = []
    for arguments, before in ((), ""), ((), ""), (("new",), ""), (("new",), "other step before"):
        pipeline._run_step(Step("one", "One", [str(script), *arguments], tmp_path / "done"), before)
        runs.append(len((tmp_path / "runs").read_text()))
    assert runs == [1, 1, 2, 3]


def test_the_bar_follows_what_commands_print(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    script = tmp_path / "step.py"
    lines = ["\x1b[38;5;255m  \x1b[39mMAX_ITER\x1b[39m: 40", "eta: 0:00:01  iter: 19  total_loss: 1.25  time: 0.1"]
    lines += ["Inference done 3/8. Dataloading: 0.1 s/iter.", "a_train:  25%|##   | 250/1000 [00:13<00:39]"]
    script.write_text("import time\n" + "".join(f"print({line!r}, flush=True); time.sleep(0.2)\n" for line in lines))
    _run_with_progress(Step("one", "One", [str(script)], tmp_path / "done"), tmp_path / "log")
    shown = capsys.readouterr().err
    assert "20/40" in shown and "loss 1.25" in shown
    assert "3/8" in shown and "Inference done" in shown
    assert "250/1000" in shown and "a_train" in shown


def test_a_failed_step_stops_with_its_last_line_and_its_log(tmp_path: Path) -> None:
    script = tmp_path / "step.py"
    script.write_text("import sys; print('start'); sys.exit('error: no such photo')")
    log = tmp_path / "log"
    with pytest.raises(InputError, match=r"One has failed with status 1: error: no such photo \(see .*log\)"):
        _run_with_progress(Step("one", "One", [str(script)], tmp_path / "done"), log)
    assert "start" in log.read_text()
