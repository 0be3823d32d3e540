"""Workers of a data loader: they ignore requests to stop, and send each batch as one tensor."""

import io
import multiprocessing
import os
import pickle
import signal
import threading
from typing import Any

import numpy as np
import torch

__all__ = ["PackedBatch", "ignore_signals_in_worker"]

_ALIGNMENT = 64  # bytes; a multiple of the size of every number


def ignore_signals_in_worker(_worker: int) -> None:
    """Ignore Ctrl-C and SIGTERM, except SIGTERM from the process that started this worker.

    A terminal sends Ctrl-C, and a scheduler SIGTERM, to all processes of a run. The run handles them, and needs its
    workers until it stops. It ends its workers with SIGTERM at the end of a loader.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS, where SIGTERM ends a worker
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        parent = multiprocessing.parent_process().pid
        threading.Thread(target=_exit_on_signal_from, args=(parent,), daemon=True).start()


def _exit_on_signal_from(process: int) -> None:
    # `sigwaitinfo` is the only call that returns the sender of a signal.
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != process:
        pass
    os._exit(0)


class PackedBatch(list):
    """A list of samples that sends its tensors to another process as one tensor; it arrives as a plain list.

    PyTorch opens a file descriptor for each tensor, which takes longer than resizing an image. With this class as
    ``collate_fn``, the bytes of all tensors, images and proposals, are in one tensor in shared memory.

    The received tensors are parts of this tensor. Copy a part to keep it without the others.
    """

    def __reduce__(self) -> tuple:
        file, buffers = io.BytesIO(), []
        _TensorPickler(file, protocol=5, buffer_callback=buffers.append).dump(list(self))
        arrays = [np.asarray(buffer.raw()) for buffer in buffers]
        starts = np.cumsum([0] + [-(-array.size // _ALIGNMENT) * _ALIGNMENT for array in arrays])
        # PyTorch would copy a tensor in private memory to shared memory.
        packed = torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(int(starts[-1])))
        places = [slice(start, start + array.size) for start, array in zip(starts.tolist(), arrays, strict=False)]
        for place, array in zip(places, arrays, strict=True):
            packed.numpy()[place] = array
        return _unpack, (file.getvalue(), packed, places)


class _TensorPickler(pickle.Pickler):
    """Pickles tensors as NumPy arrays, because pickle protocol 5 can store their bytes separately."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is torch.Tensor and value.device.type == "cpu":
            return torch.from_numpy, (np.asarray(value.detach().numpy(), order="C"),)
        return NotImplemented


def _unpack(samples: bytes, packed: torch.Tensor, places: list[slice]) -> list:
    return pickle.loads(samples, buffers=[packed.numpy()[place] for place in places])
