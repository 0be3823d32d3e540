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
    assert [step.name for step in steps] == ["teacher", "without", "with/feature", "with/prediction"]
    for step in steps:
        command = step.command
        values = dict(zip(command[-2::-2], command[:0:-2], strict=False))
        assert values["DATASETS.TRAIN"] == "('a_train',)" and values["SEED"] == "3"
        assert values["SOLVER.MAX_ITER"] == "5"
    for stage, step in zip(("feature", "prediction"), steps[2:], strict=True):
        assert step.command[step.command.index("--kd-stage") + 1] == stage
        assert str(tmp_path / "teacher" / "model_final.pth") in step.command
        assert step.result == tmp_path / "with" / stage / "results.json"


def test_a_finished_step_is_not_run_again(tmp_path: Path) -> None:
    script = tmp_path / "step.py"
    script.write_text(
        f"open({str(tmp_path / 'runs')!r}, 'a').write('x'); open({str(tmp_path / 'done')!r}, 'w').close()"
    )
    step = Step("one", "One", [str(script)], tmp_path / "done")
    pipeline = make_pipeline(tmp_path)
    first, second = pipeline._run_step(step), pipeline._run_step(step)
    assert first == second and (tmp_path / "runs").read_text() == "x"


def test_a_failed_step_stops_with_its_last_line_and_its_log(tmp_path: Path) -> None:
    script = tmp_path / "step.py"
    script.write_text("import sys; print('start'); sys.exit('error: no such photo')")
    log = tmp_path / "log"
    with pytest.raises(InputError, match=r"One has failed with status 1: error: no such photo \(see .*log\)"):
        _run_with_progress(Step("one", "One", [str(script)], tmp_path / "done"), log)
    assert "start" in log.read_text()
