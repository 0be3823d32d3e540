"""Functions that tests run in two processes, which fork from a process with all imports."""

import argparse
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.utils import comm

from helpers.small_trainer import finish
from mlickd.cli.train_net import argument_parser
from mlickd.config import default_config
from mlickd.engine import Trainer
from mlickd.engine.checkpointing import RunCheckpointer, decide_to_resume
from mlickd.engine.hooks import StopHook
from mlickd.engine.processes import launch
from mlickd.errors import InputError


def parse_arguments(*arguments: object) -> argparse.Namespace:
    """Parse the arguments of `mlickd train`."""
    return argument_parser().parse_args([str(argument) for argument in arguments])


def in_two_processes(main: Callable[..., object], *arguments: object) -> None:
    """Call ``main(*arguments)`` in each of two processes of `launch`."""
    multiprocessing.set_forkserver_preload(["helpers.processes"])
    args = parse_arguments("--num-gpus", 2)
    args.environment, args.main, args.arguments = dict(os.environ), main, arguments
    cfg = default_config()
    cfg.MODEL.DEVICE = "cpu"
    with pytest.MonkeyPatch.context() as patch:
        # The server that preloads this module does not get `sys.path` (before Python 3.13).
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        start = partial(torch.multiprocessing.start_processes, start_method="forkserver")
        patch.setattr(torch.multiprocessing, "start_processes", start)
        launch(_call_main, cfg, args)


def _call_main(_: CfgNode, args: argparse.Namespace) -> None:
    os.environ.update(args.environment)  # the fork has the variables of an earlier test
    args.main(*args.arguments)


def train_all(configs: dict[str, CfgNode], output: Path) -> None:
    """Train with each configuration; every process writes its gradients and weights."""
    torch.set_num_threads(1)
    for name, cfg in configs.items():
        cfg = cfg.clone()
        cfg.defrost()
        cfg.OUTPUT_DIR = str(output / name)
        cfg.freeze()
        # Different weights in each process. Training must start from the weights of the first process.
        torch.manual_seed(comm.get_rank())
        trainer = Trainer(cfg)
        finish(trainer)
        model = getattr(trainer.model, "module", trainer.model)
        left = {
            "weights": model.state_dict(),
            "gradients": {key: p.grad for key, p in model.named_parameters() if p.grad is not None},
        }
        torch.save(left, output / name / f"left-{comm.get_rank()}.pth")


def read_training(run: Path, rank: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    """Return the weights and gradients that a process has written after a training."""
    return torch.load(run / f"left-{rank}.pth", weights_only=True)


def fail_in(rank: int, how: str) -> None:
    """Fail in one process while the other waits for it inside of PyTorch."""
    if comm.get_rank() != rank:
        comm.synchronize()
    time.sleep(0.5)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "input":
        raise InputError("labels.csv line 7: unknown class 'yeti'; add it to classes.txt")
    raise ZeroDivisionError("of this process")


def leave_rank(folder: Path) -> None:
    """Write a file with the rank of this process as its name and its listening addresses as content."""
    here = f"here {comm.get_local_rank()} of {comm.get_local_size()}"
    file = folder / f"rank {comm.get_rank()} of {comm.get_world_size()}, {here}"
    file.write_text(" ".join(_listening_addresses()))
    comm.synchronize()


def _listening_addresses() -> list[str]:
    """Return the local addresses where this process listens, if the system lists its sockets."""
    found = []
    for descriptor in Path("/proc/self/fd").glob("*"):
        try:
            with socket.socket(fileno=os.dup(int(descriptor.name))) as opened:
                if opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and opened.family != socket.AF_UNIX:
                    found.append(opened.getsockname()[0])
        except OSError:
            continue  # not a socket
    return found


def send_signal(kind: int, receiver: str, launcher: int) -> None:
    """Send a signal to the launcher, or to this process, while the other one waits inside of PyTorch."""
    if comm.get_rank() == 1:
        comm.synchronize()
    time.sleep(0.5)
    os.kill(launcher if receiver == "launcher" else os.getpid(), kind)
    time.sleep(1000)


def stop_the_second(folder: Path) -> None:
    """Stop the second process in iteration 2, twice. Each process writes where it stops; the first one saves slowly.

    The second time, it waits for the batch of this iteration.
    """
    for name, seconds in (("stopped", 0), ("stuck", 1000)):
        (folder / name).mkdir(exist_ok=True)
        checkpointer = RunCheckpointer(torch.nn.Linear(1, 1), str(folder / name))
        save, pause = checkpointer.save, 2 * (comm.get_rank() == 0)
        checkpointer.save = lambda *args, s=save, t=pause, **rest: (time.sleep(t), s(*args, **rest))
        hook = StopHook()
        hook.trainer = SimpleNamespace(iter=0, start_iter=0, max_iter=10, checkpointer=checkpointer)
        hook.before_train()
        with forbidden_gathers(), pytest.raises(SystemExit) as end:
            for hook.trainer.iter in range(10):
                is_last = comm.get_rank() == 1 and hook.trainer.iter == 2
                if is_last and not seconds:
                    os.kill(os.getpid(), signal.SIGTERM)
                hook.read_batch(wait_for_batch(is_last * seconds) for _ in range(1))
                hook.after_step()
        hook.after_train()
        saved = ", saved" if (folder / name / "last_checkpoint").exists() else ""
        (folder / f"process {comm.get_rank()} {name} after {hook.trainer.iter}{saved}").touch()
    raise end.value


def wait_for_batch(seconds: float) -> None:
    """Send SIGTERM to this process, and wait, unless ``seconds`` is 0."""
    if seconds:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(seconds)


@contextmanager
def forbidden_gathers() -> Iterator[None]:
    """Fail if a process pickles an object for all others."""

    def refuse(*_: object) -> None:
        raise AssertionError("processes gather pickled objects")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comm, "all_gather", refuse)
        yield


def look_for_checkpoint(folder: Path) -> None:
    """Look for a checkpoint in a folder of this process; only the first process has one."""
    subfolder = folder / str(comm.get_rank())
    subfolder.mkdir()
    if comm.is_main_process():
        RunCheckpointer(torch.nn.Linear(1, 1), str(subfolder)).save("model_0000001")
    decide_to_resume(str(subfolder), True)
