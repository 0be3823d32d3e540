"""From arguments to processes that train together."""

from __future__ import annotations

import argparse
from datetime import timedelta

import pytest
import torch
from detectron2.engine import default_argument_parser

from mlickd.engine.distributed import Place, add_process_arguments, check_device, launch, num_processes
from mlickd.engine.distributed.launching import _serve as serve
from mlickd.engine.distributed.training import _prepared_once as prepared_once
from mlickd.errors import InputError

TORCHRUN = {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2}
TORCHRUN |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 29500}


def parse(*arguments: object) -> argparse.Namespace:
    parser = default_argument_parser()
    add_process_arguments(parser)
    return parser.parse_args([str(argument) for argument in arguments])


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, str(value))


def no_work(*_: object) -> None:
    pytest.fail("something has begun")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), 1),
        (("--num-gpus", 3), 3),
        (("--num-gpus", 2, "--num-machines", 2, "--machine-rank", 1, "--dist-url", "tcp://127.0.0.1:8000"), 4),
    ],
)
def test_all_machines_have_as_many_processes(arguments: tuple, expected: int) -> None:
    assert num_processes(parse(*arguments)) == expected


def test_torchrun_says_how_many_there_are(torchrun: None) -> None:
    assert num_processes(parse()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--num-gpus", 0), "--num-gpus 0 must be 1 or more"),
        (("--num-machines", -1), "--num-machines -1 must be 1 or more"),
        (("--num-machines", 2, "--machine-rank", 2), "--machine-rank 2: must be from 0 to 1, .* --num-machines 2"),
        (("--num-machines", 2), "--num-machines 2: machines meet at --dist-url tcp://HOST:PORT"),
        (("--timeout", 0), "--timeout 0 must be above 0 minutes"),
        (("--timeout", "nan"), "--timeout nan must be above 0 minutes"),
    ],
)
def test_arguments_that_cannot_be_are_refused_before_anything_begins(arguments: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        launch(no_work, parse(*arguments), no_work)


@pytest.mark.parametrize("arguments", [("--num-gpus", 2), ("--num-machines", 2)])
def test_torchrun_and_detectron2_do_not_start_processes_both(arguments: tuple, torchrun: None) -> None:
    with pytest.raises(InputError, match=f"{arguments[0]} 2: torchrun has started 2 processes; leave it out"):
        launch(no_work, parse(*arguments), no_work)


def test_each_process_has_a_gpu_or_none_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_device("cuda", 2, parse("--num-gpus", 2))
    check_device("cpu", 3, parse("--num-gpus", 3))
    check_device("cuda:1", 1, parse())
    with pytest.raises(InputError, match="--num-gpus 3: this machine has 2; give that at most, or MODEL.DEVICE cpu"):
        check_device("cuda", 3, parse("--num-gpus", 3))
    with pytest.raises(InputError, match="MODEL.DEVICE cuda:1: 2 processes take a GPU each; name none, with cuda"):
        check_device("cuda:1", 2, parse("--num-gpus", 2))


def test_more_processes_of_torchrun_than_gpus_are_refused(torchrun: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="--nproc_per_node 2: this machine has 1; give that at most"):
        check_device("cuda", 2, parse())


def test_processes_that_wait_for_the_check_in_vain_name_the_option() -> None:
    store = serve("127.0.0.1", 0, timedelta(seconds=1))
    second = Place(rank=1, world_size=2, local_rank=1, local_size=2)
    with pytest.raises(InputError, match=r"^--timeout 0\.0166667: the first process .*; give more minutes$"):
        prepared_once(second, store, lambda: pytest.fail("it is the first one that prepares"))
