"""Training in several processes, which Detectron2's ``launch`` or ``torchrun`` starts."""

import argparse
import fcntl
import inspect
import multiprocessing
import os
import re
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from typing import Any, TextIO

import torch
import torch.distributed as dist
from detectron2 import engine
from detectron2.config import CfgNode
from detectron2.engine.defaults import create_ddp_model
from detectron2.utils import comm
from torch import nn
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException
from torch.nn.parallel import DistributedDataParallel

from mlickd.environment import in_torchrun
from mlickd.errors import InputError, ProcessError, one_line, user_error_message

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # a closed terminal sends SIGHUP

Run = Callable[[CfgNode, argparse.Namespace], object]

LOCKS = ExitStack()  # files that lock_output_dir has locked

# Seconds in which the launcher notices which process has failed first.
_NOTICE = 5.0

_REMEDY = "repeat the command with --resume to continue from the last checkpoint"


def num_processes(args: argparse.Namespace) -> int:
    """Return the number of processes on all machines.

    Raises:
        InputError: an argument is out of range, or torchrun has already started the processes.
    """
    left_out = "left out, because torchrun starts the processes"
    is_url = re.fullmatch(r"tcp://[^/]+:\d+", args.dist_url)
    for name, is_allowed, expected in (
        ("num_gpus", args.num_gpus == 1 or not in_torchrun(), left_out),
        ("num_machines", args.num_machines == 1 or not in_torchrun(), left_out),
        ("num_gpus", args.num_gpus > 0, "1 or more"),
        ("num_machines", args.num_machines > 0, "1 or more"),
        ("machine_rank", 0 <= args.machine_rank < args.num_machines, "at least 0 and below --num-machines"),
        ("dist_url", is_url or args.num_machines == 1 and args.dist_url == "auto", "tcp://HOST:PORT"),
        ("timeout", 0 < args.timeout < timedelta.max.total_seconds() / 60, "a number of minutes above 0"),
    ):
        if not is_allowed:
            raise InputError(f"--{name.replace('_', '-')} {getattr(args, name)} must be {expected}")
    return int(os.environ["WORLD_SIZE"]) if in_torchrun() else args.num_gpus * args.num_machines


def check_devices(device: str, args: argparse.Namespace) -> None:
    """Raise InputError if ``MODEL.DEVICE`` is a GPU, and this machine does not have a GPU for each of its processes."""
    if not device.startswith("cuda"):
        return
    index, count = device.partition(":")[2], torch.cuda.device_count()
    if index and num_processes(args) > 1:
        raise InputError(f"MODEL.DEVICE {device}: is one GPU, but each process needs a GPU; set it to cuda")
    if index and int(index) >= count:
        raise InputError(f"MODEL.DEVICE {device}: this machine has {count} GPUs; set it to cuda")
    _check_gpu_count(int(os.environ["LOCAL_WORLD_SIZE"]) if in_torchrun() else args.num_gpus)


def _check_gpu_count(processes: int) -> None:
    count = torch.cuda.device_count()
    if processes > max(1, count):
        raise InputError(
            f"MODEL.DEVICE cuda: {processes} processes need {processes} GPUs, but this machine has {count}; start "
            "fewer processes, or set it to cpu"
        )


def launch(run: Run, cfg: CfgNode, args: argparse.Namespace) -> None:
    """Run a configuration in the number of processes that the command line sets.

    Args:
        run: function at the top level of a module, called as ``run(cfg, args)`` in each process.
        cfg: checked configuration.
        args: arguments of the command line.

    Raises:
        InputError: an argument is wrong, or ``run`` raises it.
        ProcessError: a process has failed for another reason.
        SystemExit: one of :data:`STOP_SIGNALS` has stopped the processes.
    """
    world_size = num_processes(args)
    if world_size == 1:
        run(cfg, args)
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
            run(cfg, args)
        except RuntimeError as error:
            if is_lost_connection(error):  # torchrun shows the error of the process that has failed
                raise ProcessError(f"another process has ended ({one_line(error)}); {_REMEDY}") from error
            raise
        dist.destroy_process_group()
    else:
        _start_processes(run, cfg, args)


def select_local_gpu(device: str) -> None:
    """Make the GPU of this process the current one if torchrun has started several processes on this machine.

    Raises:
        InputError: the machine does not have a GPU for each of these processes.
    """
    if device == "cuda" and in_torchrun() and torch.cuda.is_available():
        _check_gpu_count(int(os.environ["LOCAL_WORLD_SIZE"]))
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
    problem = f"OUTPUT_DIR {folder}: another process trains in it; give another OUTPUT_DIR"
    LOCKS.enter_context(lock_folder(folder, problem))


def lock_folder(folder: str | os.PathLike[str], problem: str) -> TextIO:
    """Lock a folder, and return the file that keeps the lock while it is open.

    Raises:
        InputError: another process has locked the folder; the message is ``problem``.
    """
    os.makedirs(folder, exist_ok=True)
    file = open(os.path.join(folder, ".lock"), "w")
    try:
        # Unlike a lock of `flock`, this lock ends with the run, even if the run is killed and leaves forked workers.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        file.close()
        raise InputError(problem) from error
    except OSError:  # no locks on this file system
        pass
    return file


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
        # A store over TCP would listen on all interfaces.
        url = f"file://{folder}/store" if args.dist_url == "auto" else args.dist_url
        timeout = timedelta(minutes=args.timeout)
        try:
            engine.launch(
                _run_rank, args.num_gpus, args.num_machines, args.machine_rank, url, (run, cfg, args), timeout
            )
        except ProcessRaisedException as error:
            last_traceback = str(error).rsplit("Traceback (most recent call last):", 1)[-1]
            if f"\n{InputError.__module__}.InputError: " in last_traceback:
                raise InputError(one_line(last_traceback)) from error
            if not signals:
                raise ProcessError(f"{str(error).strip()}\n{_REMEDY}") from error
        except ProcessExitedException as error:
            # A signal ends a process before training; in training, the process exits with 128 + signal.
            status = 128 - error.exit_code if error.exit_code < 0 else error.exit_code
            if not signals and status - 128 not in STOP_SIGNALS:
                raise ProcessError(f"{error}; {_REMEDY}") from error
            signals.append(status - 128)
        if signals:
            raise SystemExit(128 + signals[0])


def _run_rank(run: Run, cfg: CfgNode, args: argparse.Namespace) -> None:
    """Run one process. An error that the user can fix becomes an InputError, which the launcher recognizes."""
    # Training sets its handlers later. Until then, Python's handlers would not run while PyTorch waits for processes.
    set_stop_handlers(signal.SIG_DFL)
    if cfg.MODEL.DEVICE == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // args.num_gpus))
    try:
        run(cfg, args)
    except Exception as error:
        if is_lost_connection(error):  # another process has failed first
            time.sleep(_NOTICE)
        elif message := user_error_message(error):
            raise InputError(message) from error
        raise
    dist.destroy_process_group()


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
