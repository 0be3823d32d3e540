"""What the processes of tests do, and how they are started without importing everything once more for each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from pytest import MonkeyPatch

from mlickd.engine import Trainer
from mlickd.engine.checkpointing import RunCheckpointer
from mlickd.engine.distributed import launch_processes
from mlickd.engine.stopping import StopHook
from mlickd.errors import InputError


def in_two_processes(main: Callable[..., object], *arguments: object, **options: object) -> None:
    """`launch_processes`, from a process that has imported everything and does nothing else."""
    multiprocessing.set_forkserver_preload(["helpers.processes"])
    arguments = (dict(os.environ), main, *arguments)
    options = {"num_processes": 2, "on_gpus": False, "start_method": "forkserver"} | options
    launch_processes(_with_environment, arguments, **options)


def _with_environment(environment: dict[str, str], main: Callable[..., object], *arguments: object) -> None:
    # Theirs is that of the process that was started first.
    os.environ.update(environment)
    main(*arguments)


def train_all(configs: dict[str, CfgNode], output: Path) -> None:
    """Train each for its iterations, and have every process leave gradients, weights and results of each."""
    torch.set_num_threads(1)
    for name, cfg in configs.items():
        cfg = cfg.clone()
        cfg.defrost()
        cfg.OUTPUT_DIR = str(output / name)
        cfg.freeze()
        # The weights of the first process count.
        torch.manual_seed(comm.get_rank())
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=False)
        super(Trainer, trainer).train()
        model = getattr(trainer.model, "module", trainer.model)
        left = {
            "weights": model.state_dict(),
            "gradients": {key: p.grad for key, p in model.named_parameters() if p.grad is not None},
        }
        torch.save(left, output / name / f"left-{comm.get_rank()}.pth")


def read_all(names: list[str], output: Path, rank: int = 0) -> dict[str, dict[str, dict[str, torch.Tensor]]]:
    """What a process has left of each training."""
    return {name: torch.load(output / name / f"left-{rank}.pth", weights_only=True) for name in names}


def fail_in(rank: int, how: str, folder: Path) -> None:
    """One process fails while the other waits for it, or computes by itself."""
    if comm.get_rank() != rank:
        if how == "killed beside one that computes":
            while True:
                sum(range(10000))
        comm.synchronize()
        return
    time.sleep(0.5)  # the other one waits
    if how.startswith("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "refused":
        (folder / "file").touch()
        (folder / "file" / "below it").touch()
    if how == "input":
        raise InputError("labels.csv line 7: unknown class 'yeti'; add it to classes.txt")
    raise ZeroDivisionError("of this process")


def leave_rank(folder: Path) -> None:
    """An empty file whose name says which process this is."""
    here = f"here {comm.get_local_rank()} of {comm.get_local_size()}"
    (folder / f"rank {comm.get_rank()} of {comm.get_world_size()}, {here}").touch()


def stop_when_asked(folder: Path, launcher: int) -> None:
    """As training does, whose launcher is asked to stop by the system: ends with the status of the signal."""

    def stop(kind: int, _: object) -> None:
        raise SystemExit(128 + kind)

    signal.signal(signal.SIGTERM, stop)
    (folder / f"ready {comm.get_rank()}").touch()
    if comm.get_rank() == 0:
        while len(list(folder.iterdir())) < 2:
            time.sleep(0.05)
        os.kill(launcher, signal.SIGTERM)
    time.sleep(1000)  # longer than any test may take


def send_while_one_waits(kind: int, receiver: str, launcher: int) -> None:
    """One process waits for the other inside of PyTorch; then the launcher, or one of the two, gets a signal."""
    if comm.get_rank() == 1:
        comm.synchronize()
    time.sleep(0.5)
    os.kill(launcher if receiver == "launcher" else os.getpid(), kind)
    time.sleep(1000)


def fail_without_launcher(folder: Path, launcher: int) -> None:
    """The process that has started this one, and has the store, is gone, and then it fails."""
    (folder / str(os.getpid())).touch()
    comm.synchronize()
    if comm.get_rank() == 0:
        os.kill(launcher, signal.SIGKILL)
    time.sleep(0.1)
    raise ZeroDivisionError


def stop_the_second(folder: Path) -> None:
    """Training of which the second process is asked to stop in iteration 2; a file of each says when it did.

    To save takes the first one long.
    """
    checkpointer = RunCheckpointer(torch.nn.Linear(1, 1), str(folder))
    save = checkpointer.save
    checkpointer.save = lambda *args, **kwargs: (time.sleep(2 * (comm.get_rank() == 0)), save(*args, **kwargs))
    hook = StopHook(checkpointer)
    hook.trainer = SimpleNamespace(iter=0, max_iter=10)
    hook.before_train()
    with forbidden_gathers():
        for hook.trainer.iter in range(10):
            if comm.get_rank() == 1 and hook.trainer.iter == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            try:
                hook.after_step()
            except SystemExit:
                saved = ", saved" if (folder / "last_checkpoint").exists() else ""
                (folder / f"process {comm.get_rank()} after {hook.trainer.iter}{saved}").touch()
                raise


@contextmanager
def forbidden_gathers() -> Iterator[None]:
    """What pickles an object for all other processes fails."""

    def refuse(*_: object) -> None:
        raise AssertionError("processes gather pickled objects")

    with MonkeyPatch.context() as patch:
        patch.setattr(comm, "all_gather", refuse)
        yield


def look_for_checkpoint(folder: Path) -> None:
    """Each process has its own folder; the first one has a checkpoint."""
    torch.set_num_threads(1)
    own = folder / str(comm.get_rank())
    own.mkdir()
    model = torch.nn.Linear(1, 1)
    if comm.is_main_process():
        RunCheckpointer(model, str(own)).save("model_0000001")
    RunCheckpointer(model, str(own)).has_checkpoint()
