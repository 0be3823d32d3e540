"""Training in several processes, which Detectron2's ``launch`` or ``torchrun`` starts."""

import argparse
import inspect
import json
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from detectron2 import engine
from detectron2.config import CfgNode
from detectron2.engine.defaults import create_ddp_model
from detectron2.utils import comm
from torch import nn
from torch.multiprocessing.spawn import ProcessException
from torch.nn.parallel import DistributedDataParallel

from mlickd.environment import in_torchrun
from mlickd.errors import InputError, ProcessError, debugging, one_line, user_error_message

# A closed terminal sends SIGHUP, which Windows does not have.
STOP_SIGNALS = tuple(kind for kind in signal.Signals if kind.name in ("SIGINT", "SIGTERM", "SIGHUP"))

Run = Callable[[CfgNode, argparse.Namespace, Any], object]

LOCKS = ExitStack()  # files that lock_output_dir has locked

_REMEDY = "repeat the command with --resume to continue from the last checkpoint"


def num_processes(args: argparse.Namespace) -> int:
    """Return the number of processes on all machines.

    Raises:
        InputError: an argument is out of range, or torchrun has already started the processes.
    """
    left_out = "left out, because torchrun starts the processes"
    for name, is_allowed, expected in (
        ("num_gpus", args.num_gpus == 1 or not in_torchrun(), left_out),
        ("num_machines", args.num_machines == 1 or not in_torchrun(), left_out),
        ("num_gpus", args.num_gpus > 0, "1 or more"),
        ("num_machines", args.num_machines > 0, "1 or more"),
        ("machine_rank", 0 <= args.machine_rank < args.num_machines, "at least 0 and below --num-machines"),
        ("dist_url", args.num_machines == 1 or args.dist_url != "auto", "tcp://HOST:PORT of the first machine"),
        ("timeout", 0 < args.timeout < timedelta.max.total_seconds() / 60, "a number of minutes above 0"),
    ):
        if not is_allowed:
            raise InputError(f"--{name.replace('_', '-')} {getattr(args, name)} must be {expected}")
    return int(os.environ["WORLD_SIZE"]) if in_torchrun() else args.num_gpus * args.num_machines


def check_devices(device: str, args: argparse.Namespace) -> None:
    """Raise InputError if ``MODEL.DEVICE`` is a GPU, and this machine does not have a GPU for each of its processes."""
    if not device.startswith("cuda"):
        return
    local_size = int(os.environ["LOCAL_WORLD_SIZE"]) if in_torchrun() else args.num_gpus
    index, count = device.partition(":")[2], torch.cuda.device_count()
    if index and num_processes(args) > 1:
        raise InputError(f"MODEL.DEVICE {device}: is one GPU, but each process needs a GPU; set it to cuda")
    if index and int(index) >= count:
        raise InputError(f"MODEL.DEVICE {device}: this machine has {count} GPUs; set it to cuda")
    if local_size > 1 and local_size > count:
        raise InputError(
            f"MODEL.DEVICE {device}: {local_size} processes need {local_size} GPUs, but this machine has {count}; "
            "start fewer processes, or set it to cpu"
        )


def launch(run: Run, args: argparse.Namespace, prepare: Callable[[argparse.Namespace], tuple[CfgNode, tuple]]) -> None:
    """Prepare a configuration, then run it in the number of processes that the command line sets.

    Args:
        run: function at the top level of a module, called as ``run(cfg, args, loaded)`` in each process.
        args: arguments of the command line.
        prepare: function that returns the checked configuration, and ``loaded``, a tuple of objects for ``run``. If
            ``launch`` starts processes, they get an empty tuple and load these objects themselves.

    Raises:
        InputError: an argument is wrong, or ``prepare`` or ``run`` raises it.
        ProcessError: a process has failed for another reason.
        SystemExit: one of :data:`STOP_SIGNALS` has stopped the processes.
    """
    world_size = num_processes(args)
    cfg, loaded = prepare(args)
    if world_size == 1:
        run(cfg, args, loaded)
    elif in_torchrun():
        _configure_backend(cfg.MODEL.DEVICE, one_machine=os.environ["LOCAL_WORLD_SIZE"] == os.environ["WORLD_SIZE"])
        select_local_gpu(cfg.MODEL.DEVICE)
        backend = "nccl" if cfg.MODEL.DEVICE.startswith("cuda") else "gloo"
        timeout = timedelta(minutes=args.timeout)
        store, rank, _ = next(dist.rendezvous("env://", timeout=timeout))
        # After a failure, torchrun may reuse a store that has the addresses of the first attempt.
        store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)
        comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
        comm.synchronize()
        try:
            run(cfg, args, loaded)
        except RuntimeError as error:
            if is_lost_connection(error):  # torchrun shows the error of the process that has failed
                raise ProcessError(f"another process has ended ({one_line(error)}); {_REMEDY}") from error
            raise
        dist.destroy_process_group()
    else:
        _start_processes(run, cfg, args)


def select_local_gpu(device: str) -> None:
    """Make the GPU of this process the current one if torchrun has started several processes on this machine."""
    if device == "cuda" and in_torchrun() and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def max_over_processes(number: int | torch.Tensor) -> int:
    """Return the maximum of one integer from each process, with one reduction and without pickled objects."""
    if comm.get_world_size() == 1:
        return int(number)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    value = torch.as_tensor(number).to(device, torch.int64, copy=True)
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return int(value)


def distributed_model(model: nn.Module) -> nn.Module:
    """Return the model in ``DistributedDataParallel``; in a single process the model itself."""
    device_ids = [comm.get_local_rank()] if next(model.parameters()).is_cuda else None
    # No loss may need the last layers of a backbone, which then get no gradients (`find_unused_parameters`).
    # Forward passes must not synchronize buffers: in an evaluation, some processes have fewer batches than others.
    # PyTorch has renamed this option.
    parameters = inspect.signature(DistributedDataParallel).parameters
    option = "forward_sync_buffers" if "forward_sync_buffers" in parameters else "broadcast_buffers"
    return create_ddp_model(model, device_ids=device_ids, find_unused_parameters=True, **{option: False})


def lock_output_dir(folder: str) -> None:
    """Keep other processes from training in a folder until ``LOCKS.close()`` or the end of this process.

    Raises:
        InputError: another process trains in it.
    """
    if not comm.is_main_process():
        return
    os.makedirs(folder, exist_ok=True)
    file = LOCKS.enter_context(open(os.path.join(folder, ".lock"), "w"))
    try:
        import fcntl  # not on Windows

        # Unlike a lock of `flock`, this lock ends with the run, even if the run is killed and leaves forked workers.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise InputError(f"OUTPUT_DIR {folder}: another process trains in it; give another OUTPUT_DIR") from error
    except (ImportError, OSError):  # no locks on this file system
        pass


def set_stop_handlers(handler: signal.Handlers | Callable[[int, Any], None]) -> dict[int, Any]:
    """Set the handler of each stop signal that is not ignored (``nohup`` ignores SIGHUP); return the old handlers."""
    return {kind: signal.signal(kind, handler) for kind in STOP_SIGNALS if signal.getsignal(kind) != signal.SIG_IGN}


def is_lost_connection(error: BaseException) -> bool:
    """Return whether an exception only means that another process has ended."""
    text = str(error).lower()
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(part in text for part in ("gloo", "nccl", "connection closed by peer"))
    )


def _configure_backend(device: str, *, one_machine: bool) -> None:
    """Set the environment variables that this process or its children read when they join a process group."""
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Detectron2 uses NCCL if it sees a GPU
    loopback = [name for _, name in socket.if_nameindex() if name in ("lo", "lo0")]
    if one_machine and loopback:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0])
        os.environ.setdefault("NCCL_SOCKET_IFNAME", loopback[0])
    # Otherwise PyTorch logs a C++ stack for each lost connection.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def _start_processes(run: Run, cfg: CfgNode, args: argparse.Namespace) -> None:
    """Run processes with Detectron2's ``launch``, and raise the error of the process that fails first."""
    _configure_backend(cfg.MODEL.DEVICE, one_machine=args.num_machines == 1)
    with tempfile.TemporaryDirectory(prefix="mlickd-") as folder, _forwarded_signals() as signals:
        result_file = Path(folder, "result")
        # A store over TCP would listen on all interfaces.
        url = f"file://{folder}/store" if args.dist_url == "auto" else args.dist_url
        error = None
        try:
            engine.launch(
                _run_rank, args.num_gpus, args.num_machines, args.machine_rank, url, (result_file, run, cfg, args),
                timedelta(minutes=args.timeout),
            )  # fmt: skip
        except ProcessException as caught:
            error = caught
        status, message = json.loads(result_file.read_text()) if result_file.exists() else (0, f"{error}; {_REMEDY}")
        if status == 2:
            raise InputError(message) from error
        # Before training, a signal ends a process before it writes a result.
        signals += [kind for kind in STOP_SIGNALS if getattr(error, "exit_code", 0) == -kind]
        if status > 128 or signals:
            raise SystemExit(status if status > 128 else 128 + signals[0])
        if error is not None:
            raise ProcessError(message) from error


def _run_rank(result_file: Path, run: Run, cfg: CfgNode, args: argparse.Namespace) -> None:
    """Run one process. The process that fails first writes its exit status and its error to ``result_file``."""
    # Training sets its handlers later. Until then, Python's handlers would not run while PyTorch waits for processes.
    set_stop_handlers(signal.SIG_DFL)
    if cfg.MODEL.DEVICE == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // args.num_gpus))
    try:
        run(cfg, args, ())
    except SystemExit as stop:  # a signal has stopped training in all processes
        _write_once(result_file, stop.code, "")
    except Exception as error:
        if is_lost_connection(error):  # another process has failed first
            raise
        trace = traceback.format_exc()
        if debugging():
            sys.stderr.write(trace)
        message = user_error_message(error)
        status = 1 if message is None else 2
        _write_once(result_file, status, message or f"process {comm.get_rank() + 1} has failed:\n{trace}")
        sys.exit(status)
    dist.destroy_process_group()


def _write_once(path: Path, status: int, message: str) -> None:
    with suppress(FileExistsError), path.open("x") as file:
        file.write(json.dumps([status, message]))


@contextmanager
def _forwarded_signals() -> Iterator[list[int]]:
    """Forward stop signals to child processes instead of ending; yield a list that collects the signals."""
    received: list[int] = []

    def forward(kind: int, _: object) -> None:
        received.append(kind)
        for process in multiprocessing.active_children():
            for sent in dict.fromkeys((kind, signal.SIGTERM)):  # a process that is still starting ignores SIGINT
                with suppress(ProcessLookupError):
                    os.kill(process.pid, sent)

    before = set_stop_handlers(forward)
    try:
        yield received
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
