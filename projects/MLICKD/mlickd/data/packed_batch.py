"""Batches on their way from a loader's worker to the trainer."""

from __future__ import annotations

import io
import pickle
from typing import Any, NamedTuple

import torch

__all__ = ["PackedBatch"]

_ALIGNMENT = 64  # bytes; a multiple of the size of every number


class PackedBatch(list):
    """A list of samples whose tensors travel between processes as one; it arrives as a plain list.

    PyTorch hands every tensor over by a file descriptor of its own, which takes longer than to resize an image. A
    ``collate_fn`` of this class packs the bytes of all of them, images and proposals, into one tensor in shared memory.

    What arrives are parts of that one tensor: to keep a part of a sample for long, copy it.
    """

    def __reduce__(self) -> tuple:
        file = io.BytesIO()
        pickler = _Pickler(file)
        pickler.dump(list(self))
        places, end = [], 0
        for tensor in pickler.tensors:
            places.append(_Place(end, end + tensor.nbytes, tensor.dtype, tensor.shape))
            end += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
        packed = torch.empty(end, dtype=torch.uint8)
        for tensor, place in zip(pickler.tensors, places, strict=True):
            place.of(packed).copy_(tensor)
        return _unpack, (file.getvalue(), packed, places)


class _Place(NamedTuple):
    """Where a tensor is in the bytes of a batch."""

    start: int
    end: int
    dtype: torch.dtype
    shape: torch.Size

    def of(self, packed: torch.Tensor) -> torch.Tensor:
        return packed[self.start : self.end].view(self.dtype).view(self.shape)


class _Pickler(pickle.Pickler):
    """Leaves tensors out, and keeps them."""

    def __init__(self, file: io.BytesIO):
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.tensors: list[torch.Tensor] = []

    def persistent_id(self, value: Any) -> int | None:
        if type(value) is not torch.Tensor or value.device.type != "cpu":
            return None
        self.tensors.append(value.detach())
        return len(self.tensors) - 1


class _Unpickler(pickle.Unpickler):
    """Puts tensors back in."""

    def __init__(self, file: io.BytesIO, tensors: list[torch.Tensor]):
        super().__init__(file)
        self.tensors = tensors

    def persistent_load(self, index: int) -> torch.Tensor:
        return self.tensors[index]


def _unpack(samples: bytes, packed: torch.Tensor, places: list[_Place]) -> list:
    return _Unpickler(io.BytesIO(samples), [place.of(packed) for place in places]).load()
