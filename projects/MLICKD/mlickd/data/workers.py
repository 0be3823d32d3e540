"""What the workers of a data loader do: ignore requests to stop, and send each batch as one tensor."""

from __future__ import annotations

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
    """Ignore Ctrl-C and SIGTERM, unless SIGTERM comes from the process that started this worker.

    A terminal sends Ctrl-C to all processes of a run, and a scheduler SIGTERM. The run decides what that means, and
    needs its batches until it stops. At the end of a loader it sends SIGTERM to its workers itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS, where SIGTERM ends a worker
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        starter = multiprocessing.parent_process().pid
        threading.Thread(target=_end_with_signal_of, args=(starter,), daemon=True).start()


def _end_with_signal_of(process: int) -> None:
    # Only this call returns the process that sent a signal.
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != process:
        pass
    os._exit(0)


class PackedBatch(list):
    """A list of samples whose tensors travel between processes as one tensor; it arrives as a plain list.

    PyTorch passes each tensor through a file descriptor of its own, which takes longer than resizing an image. A
    ``collate_fn`` of this class puts the bytes of all tensors, images and proposals, into one tensor in shared memory.

    The tensors that arrive are parts of that tensor: copy a part that is to be kept for long.
    """

    def __reduce__(self) -> tuple:
        file, buffers = io.BytesIO(), []
        _TensorPickler(file, protocol=5, buffer_callback=buffers.append).dump(list(self))
        arrays = [np.asarray(buffer.raw()) for buffer in buffers]
        starts = np.cumsum([0] + [-(-array.size // _ALIGNMENT) * _ALIGNMENT for array in arrays])
        packed = torch.empty(int(starts[-1]), dtype=torch.uint8)
        places = [slice(start, start + array.size) for start, array in zip(starts.tolist(), arrays, strict=False)]
        for place, array in zip(places, arrays, strict=True):
            packed.numpy()[place] = array
        return _unpack, (file.getvalue(), packed, places)


class _TensorPickler(pickle.Pickler):
    """Pickles tensors as NumPy arrays, whose bytes protocol 5 can leave out."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is torch.Tensor and value.device.type == "cpu":
            return torch.from_numpy, (np.asarray(value.detach().numpy(), order="C"),)
        return NotImplemented


def _unpack(samples: bytes, packed: torch.Tensor, places: list[slice]) -> list:
    return pickle.loads(samples, buffers=[packed.numpy()[place] for place in places])
