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
    assert [step.name for step in steps] == ["teacher", "knowledge", "without", "with/feature", "with/prediction"]
    for step in steps:
        command = step.command
        values = dict(zip(command[-2::-2], command[:0:-2], strict=False))
        assert values["DATASETS.TRAIN"] == "('a_train',)"
        assert values.get("SEED") == (None if step.name == "knowledge" else "3"), "a cache hangs on no seed"
        assert values["SOLVER.MAX_ITER"] == "5"
    for stage, step in zip(("feature", "prediction"), steps[3:], strict=True):
        assert step.command[step.command.index("--kd-stage") + 1] == stage
        assert str(tmp_path / "teacher" / "model_final.pth") in step.command
        assert str(tmp_path / "knowledge") in step.command and str(tmp_path / "knowledge") in steps[1].command
        left = {"feature": "student.pth", "prediction": "results.json"}[stage]
        assert step.result == tmp_path / "with" / stage / left


def test_a_finished_teacher_is_taken_as_it_is(tmp_path: Path) -> None:
    pipeline = make_pipeline(tmp_path)
    pipeline.teacher = tmp_path / "other"
    steps = pipeline.training_steps()
    assert [step.name for step in steps] == ["knowledge", "without", "with/feature", "with/prediction"]
    distilled = [step for step in steps if step.name != "without"]
    assert all(str(tmp_path / "other" / "model_final.pth") in step.command for step in distilled)
    assert all(str(tmp_path.parent / "knowledge") in step.command for step in distilled), "all seeds share it"


CACHE_SCRIPT = """
import pathlib, sys
cache, teacher = map(pathlib.Path, sys.argv[1:3])
cache.mkdir(exist_ok=True)
header = cache / "header"
if header.exists() and header.read_text() != teacher.read_text():
    sys.exit("error: another teacher")
header.write_text(teacher.read_text())
with (cache / "runs").open("a") as file:
    file.write("x")
sys.exit(int((cache.parent / "fails").exists()))
"""


def caching_step(folder: Path) -> Step:
    """A step that goes on with a folder and refuses what another teacher has begun, as the tool does."""
    script, cache, teacher = folder / "cache.py", folder / "knowledge", folder / "teacher"
    script.write_text(CACHE_SCRIPT)
    command = [str(script), str(cache), str(teacher)]
    return Step("knowledge", "Knowledge", command, cache / "header", folder, reads=teacher, makes=cache)


def test_the_cache_of_another_teacher_is_made_again(tmp_path: Path) -> None:
    teacher, runs = tmp_path / "teacher", tmp_path / "knowledge" / "runs"
    teacher.write_text("first")
    seconds, digest = make_pipeline(tmp_path / "seed1")._run_step(caching_step(tmp_path))
    again = make_pipeline(tmp_path / "seed2")._run_step(caching_step(tmp_path))
    assert again == (seconds, digest) and runs.read_text() == "x", "of all seeds, those of the one that made it"
    teacher.write_text("second")
    _, other = make_pipeline(tmp_path / "seed1")._run_step(caching_step(tmp_path))
    assert other != digest and runs.read_text() == "x"
    assert (tmp_path / "knowledge" / "header").read_text() == "second"


def test_a_cache_that_was_stopped_goes_on_and_one_of_another_teacher_does_not(tmp_path: Path) -> None:
    teacher, runs = tmp_path / "teacher", tmp_path / "knowledge" / "runs"
    teacher.write_text("first")
    (tmp_path / "fails").touch()
    pipeline = make_pipeline(tmp_path / "seed1")
    for done in ("x", "xx"):
        with pytest.raises(InputError, match="failed with status 1"):
            pipeline._run_step(caching_step(tmp_path))
        assert runs.read_text() == done
    (tmp_path / "fails").unlink()
    teacher.write_text("second")
    pipeline._run_step(caching_step(tmp_path))
    assert runs.read_text() == "x"


def test_a_cache_that_the_pipeline_did_not_make_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "knowledge").mkdir()
    (tmp_path / "knowledge" / "header").write_text("first")
    for teacher in ("second", "third"):
        (tmp_path / "teacher").write_text(teacher)
        with pytest.raises(InputError, match="another teacher"):
            make_pipeline(tmp_path / "seed1")._run_step(caching_step(tmp_path))
    assert (tmp_path / "knowledge" / "header").read_text() == "first"


def test_a_finished_step_is_run_again_only_where_something_has_changed(tmp_path: Path) -> None:
    script = tmp_path / "step.py"
    script.write_text(
        f"open({str(tmp_path / 'runs')!r}, 'a').write('x'); open({str(tmp_path / 'done')!r}, 'w').close()"
    )
    pipeline = make_pipeline(tmp_path)
    runs = []
    for arguments, before in ((), ""), ((), ""), (("new",), ""), (("new",), "other step before"):
        pipeline._run_step(Step("one", "One", [str(script), *arguments], tmp_path / "done", tmp_path), before)
        runs.append(len((tmp_path / "runs").read_text()))
    assert runs == [1, 1, 2, 3]


def test_the_bar_follows_what_commands_print(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    script = tmp_path / "step.py"
    lines = ["\x1b[38;5;255m  \x1b[39mMAX_ITER\x1b[39m: 40", "eta: 0:00:01  iter: 19  total_loss: 1.25  time: 0.1"]
    lines += ["Inference done 3/8. Dataloading: 0.1 s/iter.", "a_train:  25%|##   | 250/1000 [00:13<00:39]"]
    script.write_text("import time\n" + "".join(f"print({line!r}, flush=True); time.sleep(0.2)\n" for line in lines))
    _run_with_progress(Step("one", "One", [str(script)], tmp_path / "done", tmp_path), tmp_path / "log")
    shown = capsys.readouterr().err
    assert "20/40" in shown and "loss 1.25" in shown
    assert "3/8" in shown and "Inference done" in shown
    assert "250/1000" in shown and "a_train" in shown


def test_a_failed_step_stops_with_its_last_line_and_its_log(tmp_path: Path) -> None:
    script = tmp_path / "step.py"
    script.write_text("import sys; print('start'); sys.exit('error: no such photo')")
    log = tmp_path / "log"
    with pytest.raises(InputError, match=r"One has failed with status 1: error: no such photo \(see .*log\)"):
        _run_with_progress(Step("one", "One", [str(script)], tmp_path / "done", tmp_path), log)
    assert "start" in log.read_text()
