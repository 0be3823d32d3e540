"""Where a process is among others, by what torchrun sets."""

from __future__ import annotations

import pytest

from mlickd.engine.distributed import Place, is_loopback, torchrun_place
from mlickd.errors import InputError

SECOND_OF_TWO_MACHINES = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}


def test_the_place_is_what_torchrun_says() -> None:
    assert torchrun_place(SECOND_OF_TWO_MACHINES) == Place(rank=3, world_size=4, local_rank=1, local_size=2)


def test_without_torchrun_there_is_none() -> None:
    assert torchrun_place({"HOME": "/root", "RANK": "0", "WORLD_SIZE": "2"}) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MASTER_PORT": None, "RANK": None}, "LOCAL_RANK is set in the environment, but RANK, MASTER_PORT not; start"),
        ({"WORLD_SIZE": "four"}, "WORLD_SIZE 'four' of the environment is no number"),
        ({"RANK": "4"}, "do not fit WORLD_SIZE"),
        ({"LOCAL_RANK": "2"}, "do not fit WORLD_SIZE"),
        ({"WORLD_SIZE": "5"}, "WORLD_SIZE 5 is no multiple of LOCAL_WORLD_SIZE 2; start the same number"),
    ],
)
def test_an_environment_that_cannot_be_is_refused(changes: dict[str, str | None], message: str) -> None:
    environ = {name: value for name, value in (SECOND_OF_TWO_MACHINES | changes).items() if value is not None}
    with pytest.raises(InputError, match=message):
        torchrun_place(environ)


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("::1", True), ("192.0.2.1", False), ("", False), ("no.invalid", False)]
)
def test_loopback_is_an_address_of_this_machine_alone(host: str, expected: bool) -> None:
    assert is_loopback(host) == expected
