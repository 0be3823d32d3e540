"""Training in several processes: arguments, and the end of all processes when one fails or a signal arrives."""

import os
import signal
from pathlib import Path

import pytest
import torch

from helpers.processes import fail_in, in_two_processes, leave_rank, look_for_checkpoint, parse_arguments, send_signal
from mlickd.engine.processes import check_devices, num_processes, select_local_gpu
from mlickd.errors import InputError, ProcessError


def test_processes_of_all_machines_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = ("--num-machines", 2, "--machine-rank", 1, "--dist-url", "tcp://127.0.0.1:8000")
    assert num_processes(parse_arguments()) == 1
    assert num_processes(parse_arguments("--num-gpus", 3)) == 3
    assert num_processes(parse_arguments("--num-gpus", 3, *machines)) == 6
    for name, value in {"RANK": 0, "WORLD_SIZE": 4, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    assert num_processes(parse_arguments()) == 4
    with pytest.raises(InputError, match="--num-gpus 2"):
        num_processes(parse_arguments("--num-gpus", 2))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--num-gpus", 0), "--num-gpus 0"),
        (("--num-machines", 2, "--machine-rank", 2), "--machine-rank 2"),
        (("--num-machines", 2), "--dist-url"),
        (("--num-gpus", 2, "--dist-url", "localhost:1234"), "--dist-url localhost:1234"),
        (("--timeout", "nan"), "--timeout nan"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: tuple, named: str) -> None:
    with pytest.raises(InputError, match=named):
        num_processes(parse_arguments(*arguments))


def test_each_process_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_devices("cuda", parse_arguments("--num-gpus", 2))
    check_devices("cpu", parse_arguments("--num-gpus", 3))
    check_devices("cuda:1", parse_arguments())
    for device, count, problem in (
        ("cuda", 3, "3 processes"),
        ("cuda:1", 2, "is one GPU"),
        ("cuda:2", 1, "has 2 GPUs"),
    ):
        with pytest.raises(InputError, match=f"MODEL.DEVICE {device}: .*{problem}"):
            check_devices(device, parse_arguments("--num-gpus", count))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name, value in {"RANK": 0, "WORLD_SIZE": 3, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 3}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(InputError, match="3 processes"):
        select_local_gpu("cuda")


def test_processes_know_their_ranks_and_listen_on_loopback_only(tmp_path: Path) -> None:
    in_two_processes(leave_rank, tmp_path)
    found = {path.name: set(path.read_text().split()) for path in tmp_path.iterdir()}
    assert sorted(found) == ["rank 0 of 2, here 0 of 2", "rank 1 of 2, here 1 of 2"]
    if Path("/proc/self/fd").exists():
        assert all(addresses == {"127.0.0.1"} for addresses in found.values())


@pytest.mark.parametrize(
    ("rank", "how", "expected", "message"),
    [
        (1, "input", InputError, r"^labels.csv line 7: unknown class 'yeti'; add it to classes.txt$"),
        (0, "exception", ProcessError, r"^-- Process 0 .*\nTraceback (.*\n)*ZeroDivisionError: of this"),
        (1, "killed", ProcessError, r"--resume"),
    ],
)
def test_a_failing_process_ends_the_other(rank: int, how: str, expected: type[Exception], message: str) -> None:
    with pytest.raises(expected, match=message):
        in_two_processes(fail_in, rank, how)


@pytest.mark.parametrize(("kind", "receiver"), [(signal.SIGINT, "launcher"), (signal.SIGTERM, "one of them")])
def test_signals_end_processes_before_training_at_once(kind: signal.Signals, receiver: str) -> None:
    before = signal.getsignal(kind)
    with pytest.raises(SystemExit) as end:
        in_two_processes(send_signal, kind, receiver, os.getpid())
    assert end.value.code == 128 + kind and signal.getsignal(kind) == before


def test_a_checkpoint_that_one_process_does_not_see_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--resume: process 2 of 2"):
        in_two_processes(look_for_checkpoint, tmp_path)
