"""What becomes of processes when one of them fails."""

from __future__ import annotations

import os
import signal
import socket
import time
from datetime import timedelta
from pathlib import Path

import pytest

from helpers.processes import fail_in, in_two_processes, leave_rank, look_for_checkpoint, stop_when_asked
from mlickd.engine.distributed import launch_processes
from mlickd.errors import InputError, ProcessError


@pytest.mark.parametrize(
    ("rank", "how", "expected", "message"),
    [
        (1, "input", InputError, r"^labels.csv line 7: unknown class 'yeti'; add it to classes.txt$"),
        (
            0,
            "exception",
            ProcessError,
            r"^process 1 of 2 on .* has failed:\nTraceback (.*\n)*ZeroDivisionError: of this",
        ),
        (
            1,
            "killed",
            ProcessError,
            r"^process 2 of 2 on .* was ended by SIGKILL, maybe for want of memory; try again$",
        ),
        (0, "killed beside one that computes", ProcessError, r"^process 1 of 2 on .* was ended by SIGKILL"),
    ],
)
def test_the_error_of_the_process_that_fails_is_raised_and_the_other_ends(
    rank: int, how: str, expected: type[Exception], message: str, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    with pytest.raises(expected, match=message):
        in_two_processes(fail_in, rank, how, started, remedy="try again")
    assert time.time() - started.stat().st_mtime < 30


def test_one_process_is_this_one() -> None:
    found = []
    launch_processes(found.append, ["here"], num_processes=1, on_gpus=False)
    assert found == ["here"]


def test_processes_know_their_places(tmp_path: Path) -> None:
    in_two_processes(leave_rank, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rank 0 of 2, here 0 of 2", "rank 1 of 2, here 1 of 2"]


def test_a_request_to_stop_goes_to_all_and_is_no_failure(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(SystemExit) as end:
        in_two_processes(stop_when_asked, tmp_path, os.getpid())
    assert end.value.code == 128 + signal.SIGTERM
    assert time.monotonic() - start < 25


def test_a_checkpoint_that_not_all_see_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--resume: process 2 of 2 does not see the checkpoint .* all machines share"):
        in_two_processes(look_for_checkpoint, tmp_path)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--dist-url: port {port} of 127.0.0.1 .*another process has it.* free"):
            in_two_processes(leave_rank, Path(), url=f"tcp://127.0.0.1:{port}")


@pytest.mark.parametrize("url", ["file:///tmp/x", "tcp://127.0.0.1", "127.0.0.1:8000", "tcp://127.0.0.1:none"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="--dist-url .*give tcp://HOST:PORT"):
        in_two_processes(leave_rank, Path(), url=url)


def test_a_first_machine_that_is_not_there_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(InputError, match=f"tcp://127.0.0.1:{port}: nobody listens there .*--machine-rank 0"):
        in_two_processes(
            leave_rank,
            Path(),
            url=f"tcp://127.0.0.1:{port}",
            num_machines=2,
            machine_rank=1,
            timeout=timedelta(seconds=0.5),
        )
