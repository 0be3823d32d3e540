"""Loader workers end with the run, and their errors end the run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from mlickd.data.workers import PackedBatch
from mlickd.errors import run_tool


def stay(_: object) -> None:
    """Write a file with the id of this process as its name, and do not return."""
    Path(str(os.getpid())).touch()
    time.sleep(1000)


RUN = """
import multiprocessing, os, time
from torch.utils.data import DataLoader
from data.test_workers import stay
from mlickd.data.workers import set_up_worker

multiprocessing.set_forkserver_preload(["data.test_workers"])
loaders = []
for method, number in (("spawn", 1), ("fork", 2), ("forkserver", 2)):
    options = {"num_workers": number, "worker_init_fn": set_up_worker, "multiprocessing_context": method}
    assert number == 1 or len(list(DataLoader([0, 1], **options))) == 2
    loaders.append(iter(DataLoader(range(9), collate_fn=stay, **options)))
while len(os.listdir()) < 5:
    time.sleep(0.05)
print("stuck", flush=True)
time.sleep(1000)
"""


def test_only_the_run_ends_its_workers(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[1])])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, "-c", RUN], cwd=tmp_path, env=environment, **pipes) as run:
        assert run.stdout.readline() == "stuck\n"
        subprocess.run(["kill", "-TERM", *os.listdir(tmp_path)], check=True)
        time.sleep(0.2)
        assert count_running(os.listdir(tmp_path)) == 5
        run.kill()
    for _ in range(200):
        if count_running(os.listdir(tmp_path)) == 0:
            return
        time.sleep(0.1)
    pytest.fail("workers outlive the run")


def count_running(processes: list[str]) -> int:
    states = subprocess.run(["ps", "-o", "stat=", "-p", ",".join(processes)], capture_output=True, text=True).stdout
    return sum(not state.startswith("Z") for state in states.split())


@pytest.mark.parametrize("problem", ["full memory", "killed worker"])
def test_a_worker_without_memory_is_one_line(problem: str, monkeypatch, capsys: pytest.CaptureFixture) -> None:
    def collate(samples: list) -> list:
        if problem == "killed worker":
            os.kill(os.getpid(), signal.SIGKILL)
        return PackedBatch(samples)

    def fail(size: int) -> None:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(torch.UntypedStorage, "_new_shared", fail)
    loader = DataLoader([torch.zeros(2)], num_workers=1, collate_fn=collate, multiprocessing_context="fork")
    with pytest.raises(SystemExit) as end:
        run_tool(lambda: list(loader))
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and "DATALOADER.NUM_WORKERS" in line and "--shm-size" in line
