"""What becomes of processes when one of them fails."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from helpers.forked_runs import fork, wait_or_kill
from helpers.processes import (
    fail_in,
    fail_without_launcher,
    in_two_processes,
    leave_rank,
    look_for_checkpoint,
    send_while_one_waits,
    stop_when_asked,
)
from mlickd.engine.distributed import Place, launch_processes
from mlickd.engine.distributed.launching import _run, _serve
from mlickd.errors import InputError, ProcessError, run_tool


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
        (0, "refused", InputError, r"^.*below it: Not a directory; name another place: a part of this path is a file$"),
        (0, "killed beside one that computes", ProcessError, r"^process 1 of 2 on .* was ended by SIGKILL"),
    ],
)
def test_the_error_of_the_process_that_fails_is_raised_and_the_other_ends(
    rank: int, how: str, expected: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(expected, match=message):
        in_two_processes(fail_in, rank, how, tmp_path, remedy="try again")


def test_debugging_shows_where_the_process_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("MLICKD_DEBUG", "1")
    with pytest.raises(SystemExit) as end:
        run_tool(lambda: in_two_processes(fail_in, 1, "input", tmp_path))
    assert end.value.code == 2
    *trace, line = capsys.readouterr().err.splitlines()
    assert line == "error: labels.csv line 7: unknown class 'yeti'; add it to classes.txt"
    assert any("process 2 of 2 on" in line for line in trace) and any("in fail_in" in line for line in trace)


@pytest.mark.parametrize(
    ("kind", "receiver"),
    [(signal.SIGINT, "launcher"), (signal.SIGTERM, "launcher"), (signal.SIGTERM, "one of them")],
)
def test_processes_that_do_not_train_end_at_once_when_they_are_asked_to_stop(
    kind: signal.Signals, receiver: str, capfd: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as end:
        in_two_processes(send_while_one_waits, kind, receiver, os.getpid())
    assert end.value.code == 128 + kind
    assert capfd.readouterr().err == f"stopped by {kind.name}\n"


@pytest.mark.parametrize("to_all", [True, False], ids=["of a terminal", "to the launcher"])
def test_ctrl_c_while_processes_are_starting_leaves_none_behind(
    to_all: bool, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    def work() -> None:
        os.setsid()
        send = partial(os.killpg, os.getpid()) if to_all else partial(os.kill, os.getpid())
        threading.Timer(1, send, [signal.SIGINT]).start()
        launch_processes(time.sleep, [1000], num_processes=2, on_gpus=False)

    process = fork(work, tmp_path / "of processes")
    assert wait_or_kill(process, 250) == 130
    assert capfd.readouterr().err == "stopped by SIGINT\n"
    assert (tmp_path / "of processes").read_text() == ""
    wait_until_gone(partial(os.killpg, process, 0))


def test_processes_without_the_one_that_has_started_them_end_soon(tmp_path: Path) -> None:
    def work() -> None:
        warnings.simplefilter("ignore")  # forks of a process with threads
        arguments = [tmp_path, os.getpid()]
        launch_processes(fail_without_launcher, arguments, num_processes=2, on_gpus=False, start_method="fork")

    assert wait_or_kill(fork(work, tmp_path / "log"), 250) == -signal.SIGKILL
    processes = [int(path.name) for path in tmp_path.glob("[0-9]*")]
    assert len(processes) == 2
    for process in processes:
        wait_until_gone(partial(os.kill, process, 0))


def wait_until_gone(ask: Callable[[], None]) -> None:
    deadline = time.monotonic() + 30
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            ask()
            time.sleep(0.05)


def test_a_process_ends_soon_when_it_has_failed_and_the_first_machine_is_gone(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    def be_first_machine() -> None:
        store = _serve("127.0.0.1", port, timedelta(minutes=1))
        assert store.port == port
        time.sleep(1000)

    first_machine = fork(be_first_machine, tmp_path / "first machine")

    def fail() -> None:
        os.kill(first_machine, signal.SIGKILL)
        time.sleep(0.1)
        raise ZeroDivisionError

    def work() -> None:
        _run(0, [Place(0, 1, 0, 1)], "127.0.0.1", port, False, timedelta(minutes=30), fail, ())

    assert wait_or_kill(fork(work, tmp_path / "log"), 250) == 1
    assert wait_or_kill(first_machine, 1) == -signal.SIGKILL


def test_one_process_is_this_one() -> None:
    found = []
    launch_processes(found.append, ["here"], num_processes=1, on_gpus=False)
    assert found == ["here"]


def test_processes_know_their_places(tmp_path: Path) -> None:
    in_two_processes(leave_rank, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rank 0 of 2, here 0 of 2", "rank 1 of 2, here 1 of 2"]


def test_a_request_to_stop_goes_to_all_and_is_no_failure(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        in_two_processes(stop_when_asked, tmp_path, os.getpid())
    assert end.value.code == 128 + signal.SIGTERM


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
