"""Workers of a data loader: they ignore requests to stop, end with the run, and send each batch as one tensor."""

import io
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from mlickd.errors import InputError
from mlickd.safe_images import note_pillow_warnings

# A worker that is not forked loads NumPy before it can block SIGTERM. Threads of OpenBLAS would not block it, and the
# signal would end the worker. With this variable, OpenBLAS starts no threads. PyTorch starts the workers, so it is set
# in this process: NumPy, which is loaded above, keeps its threads here, but all child processes inherit the variable.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def set_up_worker(_worker: int) -> None:
    """Ignore Ctrl-C, SIGHUP and SIGTERM, except SIGTERM from the process that started this worker.

    A terminal sends Ctrl-C or SIGHUP, and a scheduler SIGTERM, to all processes of a run. The run handles them, and
    needs its workers until it stops. It ends its workers with SIGTERM at the end of a loader. If it is killed, they
    end, too.
    """
    note_pillow_warnings()  # a worker that is not forked does not inherit this
    for kind in (signal.SIGINT, signal.SIGHUP):
        signal.signal(kind, signal.SIG_IGN)
    # Not `os.getppid()`: with the start method `forkserver`, it returns the server.
    run = multiprocessing.parent_process()
    ends = [run.join]
    if hasattr(signal, "sigwaitinfo"):  # not on macOS, where SIGTERM ends a worker
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        ends.append(partial(_wait_for_signal_from, run.pid))
    for wait in ends:
        threading.Thread(target=lambda wait=wait: (wait(), os._exit(0)), daemon=True).start()


def _wait_for_signal_from(process: int) -> None:
    # `sigwaitinfo` is the only call that returns the sender of a signal.
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != process:
        pass


def pack_batch(samples: list) -> list:
    """Return a batch as a :class:`PackedBatch` in a worker, and unchanged elsewhere; a ``collate_fn``."""
    return samples if get_worker_info() is None else PackedBatch(samples)


class PackedBatch(list):
    """A list of samples that sends its tensors to another process as one tensor; it arrives as a plain list.

    PyTorch opens a file descriptor for each tensor, which takes longer than resizing an image. Here, the pickled
    samples, with the bytes of their tensors, are one tensor in shared memory.
    """

    def __init__(self, samples: Iterable[Any]):
        super().__init__(samples)
        # PyTorch pickles a batch in a thread. If packing failed there, the run would wait for the batch forever.
        self._packed = self._pack()

    def __reduce__(self) -> tuple:
        return _unpack, (self._packed,)

    def _pack(self) -> torch.Tensor:
        file = io.BytesIO()
        _TensorPickler(file, protocol=5).dump(list(self))
        content = file.getbuffer()
        try:
            # PyTorch would copy a tensor in private memory to shared memory.
            storage = torch.UntypedStorage._new_shared(len(content))
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"DATALOADER.NUM_WORKERS: a worker cannot get {len(content) / 2**20:.1f} MiB of shared memory "
                f"({str(error).rpartition(': ')[2]}); enlarge /dev/shm (for Docker with --shm-size 2g), or set "
                "DATALOADER.NUM_WORKERS 0"
            ) from error
        packed = torch.empty(0, dtype=torch.uint8).set_(storage)
        packed.numpy()[:] = content
        return packed


class _TensorPickler(pickle.Pickler):
    """Pickles tensors as NumPy arrays, because PyTorch calls `torch.save` for each tensor."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is torch.Tensor and value.device.type == "cpu":
            return torch.from_numpy, (np.asarray(value.detach().numpy(), order="C"),)
        return NotImplemented


def _unpack(packed: torch.Tensor) -> list:
    return pickle.loads(packed.numpy())
