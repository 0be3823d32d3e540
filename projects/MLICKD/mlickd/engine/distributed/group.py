"""The group of all processes of a run, as PyTorch and Detectron2 know it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
import torch.distributed as dist
from detectron2.engine.launch import DEFAULT_TIMEOUT
from detectron2.utils import comm

from .failures import Failure, FailureBoard, FailureWatch, is_lost_connection
from .place import Place, is_loopback

__all__ = ["DEFAULT_TIMEOUT", "connect", "process_group", "stay_on_this_machine", "watched"]

# Who loses a connection waits this many seconds for the word of the process that has failed.
_WORD_OF_OTHERS = 10.0


@contextmanager
def process_group(place: Place, *, on_gpus: bool, timeout: timedelta, store: dist.Store | None) -> Iterator[None]:
    """This process in a group with the others: NCCL on GPUs, GLOO on processors.

    Args:
        place: of this process.
        on_gpus: each process of a machine has one of its GPUs.
        timeout: how long a process waits for the others, at the start and wherever they compute together.
        store: that all processes reach; None takes the one that ``torchrun`` describes in the environment.
    """
    if on_gpus:
        torch.cuda.set_device(place.local_rank)
    elif "OMP_NUM_THREADS" not in os.environ:
        # Otherwise each of them takes all cores.
        torch.set_num_threads(max(1, torch.get_num_threads() // place.local_size))
    dist.init_process_group(
        "nccl" if on_gpus else "gloo", store=store, rank=place.rank, world_size=place.world_size, timeout=timeout
    )
    comm.create_local_process_group(place.local_size)
    comm.synchronize()
    yield
    # Where a process fails, the group ends with it: to take it down in order, all would have to take part.
    dist.destroy_process_group()


@contextmanager
def watched(
    place: Place,
    connect_board: Callable[[], FailureBoard],
    report: Callable[[Failure], None] | None = None,
) -> Iterator[None]:
    """While this process works with the others, each learns of the failure of another, and then ends.

    Args:
        place: of this process.
        connect_board: opens a connection to the board of failures.
        report: of :class:`FailureWatch`.
    """
    board = connect_board()
    with FailureWatch(connect_board(), place.rank, report) as watch:
        try:
            yield
        except Exception as error:
            if is_lost_connection(error):
                time.sleep(_WORD_OF_OTHERS)
            with suppress(RuntimeError):  # with the first machine the board is gone
                board.post(Failure.of_exception(error, place.rank))
            raise
        finally:
            watch.finish()
        comm.synchronize()


def connect(host: str, port: int, timeout: timedelta) -> dist.TCPStore:
    """A connection to the store at this address.

    Raises:
        OSError: nobody has listened there before the time was over.
    """
    seconds = timeout.total_seconds()
    deadline = time.monotonic() + seconds
    # PyTorch waits, too, but with a page of messages for each try.
    while True:
        try:
            socket.create_connection((host, port), timeout=min(10.0, seconds)).close()
            return dist.TCPStore(host, port, is_master=False, timeout=timeout)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def stay_on_this_machine(host: str) -> None:
    """Where ``host``, at which processes meet, is this machine alone, GLOO opens its ports to nobody else."""
    loopback = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    if loopback and is_loopback(host):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0])
