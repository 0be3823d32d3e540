"""From Detectron2's arguments, or the environment of ``torchrun``, to processes that train together."""

from __future__ import annotations

import argparse
import math
import os
import socket
import sys
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist
from detectron2.config import CfgNode
from torch.distributed.elastic.multiprocessing.errors import record

from mlickd.config import default_config
from mlickd.errors import InputError, ProcessError

from .failures import Failure, FailureBoard, is_lost_connection
from .group import DEFAULT_TIMEOUT, connect, process_group, stay_on_this_machine, watched
from .launching import AUTOMATIC, launch_processes
from .place import Place, torchrun_place
from .requests import end_at_once_when_asked

__all__ = ["add_process_arguments", "check_device", "launch", "num_processes"]

_REMEDY = "give the command again with --resume to go on from the last checkpoint"


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    """Complete Detectron2's arguments for processes by ``--timeout``; on one machine a port is found by itself."""
    minutes = DEFAULT_TIMEOUT.total_seconds() / 60
    parser.set_defaults(dist_url=AUTOMATIC)
    parser.add_argument(
        "--timeout", type=float, default=minutes, metavar="MINUTES",
        help=f"how long a process waits for the others before the run is given up (default: {minutes:g})",
    )  # fmt: skip


def num_processes(args: argparse.Namespace) -> int:
    """How many processes train together, on all machines.

    Raises:
        InputError: the arguments cannot be, or do not fit the environment.
    """
    place = torchrun_place(os.environ)
    if place is not None:
        given = {"--num-gpus": args.num_gpus, "--num-machines": args.num_machines}
        for option, value in given.items():
            if value != 1:
                raise InputError(f"{option} {value}: torchrun has started {place.world_size} processes; leave it out")
        return place.world_size
    for option, value in {"--num-gpus": args.num_gpus, "--num-machines": args.num_machines}.items():
        if value < 1:
            raise InputError(f"{option} {value} must be 1 or more; give such a number, or leave it out for 1")
    if not 0 <= args.machine_rank < args.num_machines:
        raise InputError(
            f"--machine-rank {args.machine_rank}: must be from 0 to {args.num_machines - 1}, one less than "
            f"--num-machines {args.num_machines}; give such a number"
        )
    if args.num_machines > 1 and args.dist_url == AUTOMATIC:
        raise InputError(
            f"--num-machines {args.num_machines}: machines meet at --dist-url tcp://HOST:PORT, with the address of the "
            "one with --machine-rank 0; give it to all"
        )
    return args.num_gpus * args.num_machines


def check_device(device: str, num_processes: int, args: argparse.Namespace) -> None:
    """
    Args:
        device: ``MODEL.DEVICE``.
        num_processes: on all machines.
        args: of the command line.

    Raises:
        InputError: the processes of this machine cannot have a GPU each where they compute on GPUs.
    """
    if not device.startswith("cuda") or num_processes == 1:
        return
    if ":" in device:
        raise InputError(f"MODEL.DEVICE {device}: {num_processes} processes take a GPU each; name none, with cuda")
    place = torchrun_place(os.environ)
    option, local_size = ("--nproc_per_node", place.local_size) if place else ("--num-gpus", args.num_gpus)
    available = torch.cuda.device_count()
    if local_size > available:
        raise InputError(f"{option} {local_size}: this machine has {available}; give that at most, or MODEL.DEVICE cpu")


def launch(
    run: Callable[[CfgNode, argparse.Namespace], object],
    args: argparse.Namespace,
    prepare: Callable[[argparse.Namespace], CfgNode],
) -> None:
    """Prepare a configuration once on each machine, and run it in as many processes as are asked for.

    Args:
        run: what each process does, a function of a module.
        args: of the command line.
        prepare: completes and checks the configuration.

    Raises:
        InputError: an option, or what ``prepare`` or a process has found.
        ProcessError: a process has failed otherwise.
    """
    num_processes(args)
    if not 0 < args.timeout < math.inf:
        raise InputError(f"--timeout {args.timeout:g} must be above 0 minutes; give such a number, for instance 30")
    timeout = timedelta(minutes=args.timeout)
    place = torchrun_place(os.environ)
    if place is not None and place.world_size > 1:
        record(_run_in_place)(place, timeout, run, args, prepare)
        return
    cfg = prepare(args)
    launch_processes(
        run,
        (cfg, args),
        num_processes=args.num_gpus,
        on_gpus=_on_gpus(cfg),
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        url=args.dist_url,
        timeout=timeout,
        remedy=_REMEDY,
    )


def _run_in_place(
    place: Place,
    timeout: timedelta,
    run: Callable[[CfgNode, argparse.Namespace], object],
    args: argparse.Namespace,
    prepare: Callable[[argparse.Namespace], CfgNode],
) -> None:
    """What each process does that ``torchrun`` has started. It ends the others of a machine when one fails."""
    end_at_once_when_asked()
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    stay_on_this_machine(host)
    # What torchrun starts after a failure may have the same store, in which addresses of the first attempt are left.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store, *_ = next(dist.rendezvous("env://", timeout=timeout))
    store = dist.PrefixStore(f"mlickd/attempt {attempt}", store)
    cfg = _prepared_once(place, store, lambda: prepare(args))
    with process_group(place, on_gpus=_on_gpus(cfg), timeout=timeout, store=store):

        def board() -> FailureBoard:
            return FailureBoard(connect(host, port, timeout), attempt)

        def report(failure: Failure) -> None:
            # On its own machine it has shown its error itself.
            if place.local_rank == 0 and failure.host != socket.gethostname():
                sys.stderr.write(f"error: {failure.error(place.world_size, _REMEDY)}\n")

        try:
            with watched(place, board, report):
                run(cfg, args)
        except Exception as error:
            if is_lost_connection(error):
                # The traceback of the process that has failed is to be seen, not one of each other process.
                raise ProcessError(
                    f"process {place.rank + 1} of {place.world_size} on {socket.gethostname()} has lost another one; "
                    f"{_REMEDY}"
                ) from error
            raise


def _prepared_once(place: Place, store: dist.Store, prepare: Callable[[], CfgNode]) -> CfgNode:
    """The configuration, from the first process of each machine. Where that fails, torchrun ends the others.

    Raises:
        InputError: what ``prepare`` has found, or it takes longer than the store waits.
    """
    key = f"configuration of machine {place.rank // place.local_size}"
    if place.local_rank == 0:
        cfg = prepare()
        store.set(key, cfg.dump())
        return cfg
    try:
        prepared = store.get(key).decode()
    except dist.DistStoreError as error:
        minutes = store.timeout.total_seconds() / 60
        raise InputError(
            f"--timeout {minutes:g}: the first process of this machine takes longer to check configuration and data; "
            "give more minutes"
        ) from error
    cfg = default_config()
    cfg.merge_from_other_cfg(CfgNode.load_cfg(prepared))
    cfg.freeze()
    return cfg


def _on_gpus(cfg: CfgNode) -> bool:
    return cfg.MODEL.DEVICE.startswith("cuda")
