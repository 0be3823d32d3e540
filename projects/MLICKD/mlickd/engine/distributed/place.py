"""Which of several processes this one is."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from mlickd.errors import InputError

__all__ = ["Place", "is_loopback", "torchrun_place"]

# What torchrun gives to each process that it starts.
_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")


@dataclass(frozen=True)
class Place:
    """One of several processes; all machines have as many.

    Attributes:
        rank: of all processes, from 0.
        world_size: how many processes there are.
        local_rank: of the processes on this machine, from 0.
        local_size: how many processes this machine has.
    """

    rank: int
    world_size: int
    local_rank: int
    local_size: int


def torchrun_place(environ: Mapping[str, str]) -> Place | None:
    """The place that ``torchrun``, or what sets the same variables, has given to this process; None without.

    Raises:
        InputError: a variable is missing or is no number, or machines have different numbers of processes.
    """
    if "LOCAL_RANK" not in environ:
        return None
    missing = [name for name in (*_TORCHRUN, "MASTER_ADDR") if name not in environ]
    if missing:
        raise InputError(
            f"LOCAL_RANK is set in the environment, but {', '.join(missing)} not; start with torchrun, which sets "
            "them all, or unset LOCAL_RANK"
        )
    numbers = {}
    for name in _TORCHRUN:
        if not environ[name].isdecimal():
            raise InputError(f"{name} {environ[name]!r} of the environment is no number; start with torchrun")
        numbers[name] = int(environ[name])
    place = Place(*(numbers[name] for name in _TORCHRUN[:4]))
    if place.rank >= place.world_size or place.local_rank >= place.local_size:
        raise InputError(
            f"RANK and LOCAL_RANK of the environment do not fit WORLD_SIZE and LOCAL_WORLD_SIZE: {place}; start with "
            "torchrun"
        )
    if place.world_size % place.local_size:
        raise InputError(
            f"WORLD_SIZE {place.world_size} is no multiple of LOCAL_WORLD_SIZE {place.local_size}; start the same "
            "number of processes on each machine (torchrun --nproc_per_node)"
        )
    return place


def is_loopback(host: str) -> bool:
    """Whether the address of ``host`` is one that only this machine can reach."""
    try:
        addresses = {address[4][0] for address in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses)
