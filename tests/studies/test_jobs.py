"""Jobs of a study run once, and again after changes."""

import os
import shutil
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.forked_runs import fork, wait_or_kill
from mlickd.engine.processes import lock_folder
from mlickd.errors import InputError
from mlickd.studies.jobs import Job, jobs_to_run, run_jobs

SCRIPT = """
import os, pathlib, sys, time
others, folder = sys.argv[-1].split(","), pathlib.Path(sys.argv[-2])
folder.mkdir(exist_ok=True)
with (folder / "calls").open("a") as file:
    file.write(f"{os.environ.get('OMP_NUM_THREADS')} {'--resume' in sys.argv}\\n")
# Wait for the jobs that run at the same time.
start = time.time()
while not all((folder.parent / other / "calls").exists() for other in others if other):
    if time.time() > start + 20:
        sys.exit("error: the other jobs do not run")
    time.sleep(0.02)
if (folder.parent / f"{folder.name} fails").exists():
    print("Loss is NaN")
    sys.exit("error: no memory")
(folder / "result").write_text(str(time.time()))
"""


@pytest.fixture(autouse=True)
def python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs run Python files instead of the commands of `mlickd`."""
    monkeypatch.setattr("mlickd.studies.jobs.PROGRAM", (sys.executable,))


def make_job(root: Path, name: str, others: str = "", **settings: object) -> Job:
    (root / "job.py").write_text(SCRIPT)
    return Job(name, root, [str(root / "job.py"), str(root / name), others], result="result", **settings)


def calls(job: Job) -> list[str]:
    """Return a line for each call of the command in its folder: number of threads, and whether it was resumed."""
    return (job.folder / "calls").read_text().splitlines() if (job.folder / "calls").exists() else []


def run(*jobs: Job, num_jobs: int = 1) -> list[str]:
    return run_jobs(jobs, jobs[0].root, num_jobs)


def test_a_job_runs_again_only_if_something_it_depends_on_changes(tiny_scenes: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path, "job", inputs=[tmp_path / "missing"], datasets=["tiny_train"])
    seconds = []

    def times(job: Job) -> float:
        assert run(job) == []
        seconds.append(job.record()["seconds"])
        return float((job.folder / "result").read_text())

    first = times(job)
    assert times(job) == first and seconds[0] == seconds[1] and jobs_to_run([job]) == []
    (tmp_path / "missing").write_text("now here")
    assert len(jobs_to_run([job])) == 1 and (second := times(job)) > first
    # A process reads a dataset once, so other labels need another name here.
    for name in ("relabeled", "copied", "changed"):
        shutil.copytree(tiny_scenes / "tiny", tiny_scenes / name)
    table = tiny_scenes / "relabeled" / "labels_train.csv"
    header, row, *others = table.read_text().splitlines()
    table.write_text("\n".join([header, row.split(",")[0] + ",", *others]) + "\n")
    assert times(replace(job, datasets=["relabeled_train"])) > second
    assert len(calls(job)) == 1, "the folder is made again each time"
    with next((tiny_scenes / "changed" / "images").rglob("*.*")).open("ab") as image:
        image.write(b"more")
    same, copied, changed = (replace(job, datasets=[f"{name}_train"]) for name in ("tiny", "copied", "changed"))
    assert copied.digest() == same.digest() != changed.digest()


def test_a_folder_that_the_study_did_not_make_stays(tmp_path: Path) -> None:
    job = make_job(tmp_path, "job")
    job.folder.mkdir()
    (failure,) = run(job)
    assert str(job.folder) in failure and list(job.folder.iterdir()) == [] and job.record()["failure"] == failure
    # The second run knows the job only from the failure of the job before it.
    (tmp_path / "before fails").touch()
    before = make_job(tmp_path, "before", resumes=True)
    assert len(run(replace(job, depends_on=[before]))) == 2
    (tmp_path / "before fails").unlink()
    (failure,) = run(replace(job, depends_on=[before]))
    assert str(job.folder) in failure and list(job.folder.iterdir()) == []


def test_a_stopped_job_is_resumed_after_an_earlier_job_has_failed(tmp_path: Path) -> None:
    before = make_job(tmp_path, "before", resumes=True, is_intermediate=True)
    job = make_job(tmp_path, "job", resumes=True, depends_on=[before])
    for failing in ("job fails", "before fails"):
        (tmp_path / failing).touch()
        shutil.rmtree(before.folder, ignore_errors=True)  # so that it runs again
        assert run(job)
        (tmp_path / failing).unlink()
    assert run(job) == []
    assert [call.split()[1] for call in calls(job)] == ["False", "True"]


def test_a_failed_job_stops_dependent_jobs_and_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "bad fails").touch()
    bad = make_job(tmp_path, "bad", resumes=True)
    behind = make_job(tmp_path, "behind", depends_on=[bad])
    last = make_job(tmp_path, "last", depends_on=[behind])
    good = make_job(tmp_path, "good")
    failures = run(bad, behind, last, good)
    assert len(failures) == 3 and failures[0].startswith("bad failed with status 1: error: no memory (see ")
    assert "behind" in failures[2] and bad.record()["failure"] == failures[0]
    assert "Loss is NaN" in bad.log.read_text()
    assert (good.folder / "result").exists() and not behind.folder.exists()
    (tmp_path / "bad fails").unlink()

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs([bad, behind, last], tmp_path, first=[bad], after_first=stop)
    assert "failure" not in last.record(), "it has not failed again"
    assert run(bad, behind, last, good) == []
    assert [call.split()[1] for call in calls(bad)] == ["False", "True"], "a stopped run is resumed"
    assert bad.record()["seconds"] is None and behind.record()["seconds"] > 0
    assert len(calls(good)) == 1


def test_jobs_run_together_and_share_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    first, second = make_job(tmp_path, "first", "second"), make_job(tmp_path, "second", "first")
    third = make_job(tmp_path, "third", depends_on=[first, second])
    assert run(third, first, second, num_jobs=2) == []
    times = [float((job.folder / "result").read_text()) for job in (first, second, third)]
    assert times[2] > max(times[:2]) and calls(third) == ["3 False"]


def test_preparing_jobs_run_only_if_another_job_needs_them(tmp_path: Path) -> None:
    (tmp_path / "nothing.py").write_text("")
    proposals = Job("proposals", tmp_path, [str(tmp_path / "nothing.py")], is_intermediate=True)
    cache = make_job(tmp_path, "cache", is_intermediate=True, depends_on=[proposals])
    student = make_job(tmp_path, "student", depends_on=[cache])
    assert run(student) == []
    larger = replace(cache, options=["more"])
    assert jobs_to_run([replace(student, depends_on=[larger])]) == [], "a larger cache has the same knowledge"
    assert len(jobs_to_run([replace(student, depends_on=[larger], options=["x"])])) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_commands(tmp_path: Path, number: int) -> None:
    endless, following = make_job(tmp_path, "endless", "nobody"), make_job(tmp_path, "next")

    def send_signal() -> None:
        while not calls(endless):
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    threading.Thread(target=send_signal).start()
    start = time.time()
    with pytest.raises(KeyboardInterrupt):
        run(endless, following)
    assert time.time() - start < 15, "the command would wait for 20 s"
    assert "failure" not in endless.record() and not following.folder.exists()


def test_two_studies_cannot_run_in_one_folder(tmp_path: Path) -> None:
    def run_again() -> None:
        with pytest.raises(InputError, match="--output"):
            run(make_job(tmp_path, "job"))

    with lock_folder(tmp_path, ""):
        assert wait_or_kill(fork(run_again, tmp_path / "log"), 60) == 0, (tmp_path / "log").read_text()
