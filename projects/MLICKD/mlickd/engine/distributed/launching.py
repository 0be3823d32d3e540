"""Several processes on this machine, and what becomes of the others when one of them fails."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from urllib.parse import urlsplit

import torch.distributed as dist
import torch.multiprocessing

from mlickd.errors import InputError

from .failures import Failure, FailureBoard
from .group import DEFAULT_TIMEOUT, connect, process_group, stay_on_this_machine, watched
from .place import Place, is_loopback
from .requests import REQUESTS, RequestsToStop, end_at_once_when_asked

__all__ = ["AUTOMATIC", "launch_processes"]

# Processes of one machine find a port by themselves.
AUTOMATIC = "auto"
# After a failure the other processes have this many seconds to end by themselves.
_GRACE = 5.0
# So many seconds are enough to reach a store of which nothing may be left.
_LAST_WORD = timedelta(seconds=5)


def launch_processes(
    main: Callable[..., object],
    args: Sequence[object] = (),
    *,
    num_processes: int,
    on_gpus: bool,
    num_machines: int = 1,
    machine_rank: int = 0,
    url: str = AUTOMATIC,
    timeout: timedelta = DEFAULT_TIMEOUT,
    remedy: str = "give the command again",
    start_method: str = "spawn",
) -> None:
    """Run ``main(*args)`` in several processes that compute together; in this process where one is all.

    As Detectron2's ``launch``, whose arguments these are, but when one process fails, all others end, on all machines,
    and it is its error that is raised, not one of those that follow from it. For that the first machine keeps a store,
    in the process that calls this, which waits for the others.

    Args:
        main: a function of a module.
        args: for it.
        num_processes: on this machine, as on each other one.
        on_gpus: each process has a GPU; otherwise they compute on the processor.
        num_machines: on each of which this is called.
        machine_rank: of this machine, from 0.
        url: ``tcp://HOST:PORT`` of the first machine, at which processes meet; ``auto`` on a single one.
        timeout: how long a process waits for the others, at the start and wherever they compute together.
        remedy: how to go on when a process was ended by the system.
        start_method: of :mod:`multiprocessing`.

    Raises:
        InputError: raised in one of the processes, on whatever machine; or the machines cannot meet at ``url``.
        ProcessError: one of the processes has failed otherwise.
        SystemExit: they have ended because they were asked to, by SIGINT or SIGTERM, which are passed on to them; where
            they do not listen themselves, as training does, at once, and with one line.
    """
    world_size = num_machines * num_processes
    if world_size == 1:
        main(*args)
        return
    host, port = ("127.0.0.1", 0) if url == AUTOMATIC else _address(url)
    store = _serve(host, port, timeout) if machine_rank == 0 else _join(host, port, timeout)
    stay_on_this_machine(host)
    # PyTorch tells of each lost connection with the whole stack; that it is lost is told in one line here.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    first = machine_rank * num_processes
    places = [Place(first + i, world_size, i, num_processes) for i in range(num_processes)]

    def start() -> list[BaseProcess]:
        arguments = (places, host, store.port, on_gpus, timeout, main, tuple(args))
        return torch.multiprocessing.start_processes(
            _run, arguments, nprocs=num_processes, join=False, start_method=start_method
        ).processes

    with RequestsToStop() as requests:
        processes = requests.start(start)
        ended = _wait_for_all_or_a_failure(processes)
        if ended is None:
            stopped = [process.exitcode for process in processes if process.exitcode]
            if stopped:
                raise SystemExit(128 + requests.first if requests.first else stopped[0])
            return
        failure = _failure(FailureBoard(store), places[ended], processes[ended].exitcode, requests.first)
        _end(processes)
        if num_machines > 1 and machine_rank == 0:
            time.sleep(_GRACE)  # the others read the store
    if failure.kind == "stopped":
        sys.stderr.write(f"stopped by {failure.message}{f' on {failure.host}' if num_machines > 1 else ''}\n")
    raise failure.error(world_size, remedy)


def _run(
    index: int,
    places: Sequence[Place],
    host: str,
    port: int,
    on_gpus: bool,
    timeout: timedelta,
    main: Callable[..., object],
    args: tuple,
) -> None:
    """What each process does. Its failure is on the board, for the process that has started it."""
    end_at_once_when_asked()
    place = places[index]
    try:
        with (
            process_group(place, on_gpus=on_gpus, timeout=timeout, store=connect(host, port, timeout)),
            watched(place, lambda: FailureBoard(connect(host, port, timeout))),
        ):
            main(*args)
    except Exception as error:
        with suppress(OSError, RuntimeError):
            FailureBoard(connect(host, port, _LAST_WORD)).post(Failure.of_exception(error, place.rank))
        sys.stdout.flush()
        sys.exit(1)


def _address(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.scheme != "tcp":
        raise InputError(f"--dist-url {url}: give tcp://HOST:PORT, with address and a free port of the first machine")
    return host, port


def _serve(host: str, port: int, timeout: timedelta) -> dist.TCPStore:
    store = partial(dist.TCPStore, host, is_master=True, wait_for_workers=False, timeout=timeout)
    try:
        if not is_loopback(host):
            return store(port=port)
        # By itself the store listens to all the network. PyTorch 2.4 takes a socket without libuv alone.
        listener = socket.create_server((host, port))
        return store(port=listener.getsockname()[1], master_listen_fd=listener.detach(), use_libuv=False)
    except (OSError, RuntimeError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        reason = "another process has it" if taken else str(error).splitlines()[0]
        raise InputError(
            f"--dist-url: port {port} of {host} cannot be opened ({reason}); give a free port, and the address of the "
            "machine with --machine-rank 0"
        ) from error


def _join(host: str, port: int, timeout: timedelta) -> dist.TCPStore:
    try:
        return connect(host, port, timeout)
    except OSError as error:
        raise InputError(
            f"--dist-url tcp://{host}:{port}: nobody listens there ({error}); start the command with --machine-rank 0 "
            "on that machine"
        ) from error


def _wait_for_all_or_a_failure(processes: Sequence[BaseProcess]) -> int | None:
    """Number of the first process that is seen to end otherwise than it should.

    Those that were asked to stop in training end together, with the status 128 + signal.
    """
    in_order = {0, *(128 + kind for kind in REQUESTS)}
    running = {process.sentinel: number for number, process in enumerate(processes)}
    while running:
        for sentinel in wait(list(running)):
            number = running.pop(sentinel)
            processes[number].join()
            if processes[number].exitcode not in in_order:
                return number
    return None


def _failure(board: FailureBoard, place: Place, status: int, request: int) -> Failure:
    """The failure that came first, on whatever machine; of a process that was ended, now on the board, too.

    Args:
        board: of all machines.
        place: of the process.
        status: of it.
        request: the first signal to this process, or 0.
    """
    if -status in REQUESTS:
        own = Failure.of_request(request or -status, place.rank)
    elif status > 0:
        own = Failure.of_end(f"with status {status}", place.rank)
    else:
        reason = ", maybe for want of memory" if -status == signal.SIGKILL else ""
        own = Failure.of_end(f"by {signal.Signals(-status).name}{reason}", place.rank)
    try:
        board.post(own)
        return board.first()
    except RuntimeError:
        return Failure.of_end("because nothing is heard of the first machine any more", place.rank)


def _end(processes: Sequence[BaseProcess]) -> None:
    deadline = time.monotonic() + _GRACE
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    for process in processes:
        if process.is_alive():
            process.kill()
        process.join()
