"""Commands that are run once, and again where something has changed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mlickd.errors import InputError
from mlickd.studies.progress import write_log_with_bar
from mlickd.studies.steps import Step, StepRunner, stopped_by_signals, threads_of_each

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
    return Step("knowledge", "Knowledge", command, cache / "header", folder, reads=[teacher], makes=cache)


def script_step(folder: Path, text: str, *arguments: str) -> Step:
    """A step that is a script and ends well when it leaves `done`."""
    (folder / "step.py").write_text(text)
    return Step("one", "One", [str(folder / "step.py"), *arguments], folder / "done", folder)


def test_the_cache_of_another_teacher_is_made_again(tmp_path: Path) -> None:
    teacher, runs = tmp_path / "teacher", tmp_path / "knowledge" / "runs"
    teacher.write_text("first")
    seconds = StepRunner().run(caching_step(tmp_path))
    assert StepRunner().run(caching_step(tmp_path)) == seconds and runs.read_text() == "x", "those of the first time"
    teacher.write_text("second")
    assert StepRunner().state(caching_step(tmp_path)).changed
    StepRunner().run(caching_step(tmp_path))
    assert runs.read_text() == "x"
    assert (tmp_path / "knowledge" / "header").read_text() == "second"


def test_a_cache_that_was_stopped_goes_on_and_one_of_another_teacher_does_not(tmp_path: Path) -> None:
    teacher, runs = tmp_path / "teacher", tmp_path / "knowledge" / "runs"
    teacher.write_text("first")
    (tmp_path / "fails").touch()
    for done in ("x", "xx"):
        with pytest.raises(InputError, match="failed with status 1"):
            StepRunner().run(caching_step(tmp_path))
        assert runs.read_text() == done
        assert "failed with status 1" in StepRunner().state(caching_step(tmp_path)).failure
    (tmp_path / "fails").unlink()
    teacher.write_text("second")
    StepRunner().run(caching_step(tmp_path))
    assert runs.read_text() == "x"


def test_a_cache_that_no_step_has_made_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "knowledge").mkdir()
    (tmp_path / "knowledge" / "header").write_text("first")
    for teacher in ("second", "third"):
        (tmp_path / "teacher").write_text(teacher)
        with pytest.raises(InputError, match="another teacher"):
            StepRunner().run(caching_step(tmp_path))
    assert (tmp_path / "knowledge" / "header").read_text() == "first"


def test_a_finished_step_is_run_again_only_where_something_has_changed(tmp_path: Path) -> None:
    text = f"open({str(tmp_path / 'runs')!r}, 'a').write('x'); open({str(tmp_path / 'done')!r}, 'w').close()"
    (tmp_path / "weights").write_text("1")
    step = replace(script_step(tmp_path, text), reads=[tmp_path / "weights"], regardless_of=["where"])
    runs = []
    for arguments, weights in ((), "1"), ((), "1"), (("new",), "1"), (("new", "where"), "1"), (("new",), "2"):
        (tmp_path / "weights").write_text(weights)
        StepRunner().run(replace(step, command=[*step.command, *arguments]))
        runs.append(len((tmp_path / "runs").read_text()))
    assert runs == [1, 1, 2, 2, 3]


def test_a_step_that_was_stopped_is_told_to_resume_unless_it_is_another_by_now(tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = (
        "import pathlib, sys\n"
        f"out = pathlib.Path({str(out)!r}); out.mkdir(exist_ok=True)\n"
        "with (out / 'arguments').open('a') as file: file.write(' '.join(sys.argv[1:]) + ';')\n"
        f"if {str(tmp_path / 'well')!r} in map(str, out.parent.iterdir()): (out / 'done').touch()\n"
        "else: sys.exit('killed')\n"
    )
    step = replace(script_step(tmp_path, text, "a"), result=out / "done", makes=out, resume=["--resume"])
    for _ in range(2):
        with pytest.raises(InputError):
            StepRunner().run(step)
    assert (out / "arguments").read_text() == "a;--resume a;"
    (tmp_path / "well").touch()
    StepRunner().run(step)
    assert StepRunner().state(step).resumed
    other = replace(step, command=[step.command[0], "b"])
    StepRunner().run(other)
    assert (out / "arguments").read_text() == "b;", "nothing is left of the run that it is not"
    assert not StepRunner().state(other).resumed


def test_threads_are_those_that_are_asked_for(tmp_path: Path) -> None:
    text = f"import os; open({str(tmp_path / 'done')!r}, 'w').write(os.environ.get('OMP_NUM_THREADS', ''))"
    StepRunner(threads=3, bar=False).run(script_step(tmp_path, text))
    assert (tmp_path / "done").read_text() == "3"


def test_the_bar_follows_what_commands_print(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    lines = ["\x1b[38;5;255m  \x1b[39mMAX_ITER\x1b[39m: 40", "eta: 0:00:01  iter: 19  total_loss: 1.25  time: 0.1"]
    lines += ["Inference done 3/8. Dataloading: 0.1 s/iter.", "a_train:  25%|##   | 250/1000 [00:13<00:39]"]

    def slowly():
        for line in lines:
            yield f"{line}\n"
            time.sleep(0.2)

    write_log_with_bar(slowly(), tmp_path / "log", "one")
    shown = capsys.readouterr().err
    assert "20/40" in shown and "loss 1.25" in shown
    assert "3/8" in shown and "Inference done" in shown
    assert "250/1000" in shown and "a_train" in shown
    assert (tmp_path / "log").read_text().splitlines() == lines


def test_a_failed_step_stops_with_its_last_line_and_its_log(tmp_path: Path) -> None:
    step = script_step(tmp_path, "import sys; print('start'); sys.exit('error: no such photo')")
    with pytest.raises(InputError, match=r"One has failed with status 1: error: no such photo \(see .*one.log\)"):
        StepRunner().run(step)
    assert "start" in step.log.read_text()


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="process groups are POSIX")
def test_stopping_ends_a_command_with_its_processes_and_it_has_not_failed(tmp_path: Path) -> None:
    text = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(tmp_path / 'pids')!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}.'); time.sleep(60)"
    )
    step, runner, errors = script_step(tmp_path, text), StepRunner(bar=False), []

    def run() -> None:
        with pytest.raises(InputError, match="One was stopped"):
            runner.run(step)
        errors.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    pids = tmp_path / "pids"
    while not (pids.exists() and pids.read_text().endswith(".")):
        time.sleep(0.05)
    runner.stop()
    thread.join(30)
    assert errors == [True]
    for pid in pids.read_text().rstrip(".").split():
        assert_ends(int(pid))
    assert StepRunner().state(step).failure == "", "what was stopped has not failed"
    assert list(json.loads(step.record.read_text())["one"]) == ["digest", "ran"]


def assert_ends(pid: int) -> None:
    """A process is gone, or dead and waiting for whoever inherits it, within some seconds."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.1)
    raise AssertionError(f"process {pid} is still there")


def test_commands_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert [threads_of_each(jobs) for jobs in (1, 2, 4, 9)] == [0, 3, 1, 1]


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopped_by_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_request_to_end_is_an_interrupt() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), stopped_by_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_command_that_leaves_no_result_has_failed(tmp_path: Path) -> None:
    step = script_step(tmp_path, "print('nothing to do')")
    with pytest.raises(InputError, match=r"One has ended without leaving .*done \(see .*one.log\)"):
        StepRunner().run(step)
    assert "without leaving" in StepRunner().state(step).failure
    (tmp_path / "step.py").write_text(f"open({str(step.result)!r}, 'w')")
    StepRunner().run(step)
    assert StepRunner().state(step).failure == "" and StepRunner().state(step).seconds is not None


def test_a_step_hangs_on_the_labels_of_its_data_sets(tiny_scenes: Path, tmp_path: Path) -> None:
    # A process reads a dataset once, so that another content needs another name here.
    for name in ("alike", "relabeled"):
        shutil.copytree(tiny_scenes / "tiny", tiny_scenes / name)
    table = tiny_scenes / "relabeled" / "labels_train.csv"
    header, first, *others = table.read_text().splitlines()
    table.write_text("\n".join([header, first.split(",")[0] + ",", *others]) + "\n")
    step = script_step(tmp_path, f"open({str(tmp_path / 'done')!r}, 'a').write('x')")
    runs = []
    for name in ("tiny_train", "alike_train", "relabeled_train", "relabeled_train"):
        StepRunner().run(replace(step, datasets=["tiny_test", name]))
        runs.append(len(step.result.read_text()))
    assert runs == [1, 1, 2, 2]


@pytest.mark.parametrize("content", ["", "[]", '{"knowledge": 1}', "[" * 5000])
def test_damaged_records_are_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "teacher").write_text("one")
    step = caching_step(tmp_path)
    step.record.parent.mkdir(parents=True, exist_ok=True)
    step.record.write_text(content)
    with pytest.raises(InputError, match=f"{step.record.name}: is damaged; remove it"):
        StepRunner().run(step)
