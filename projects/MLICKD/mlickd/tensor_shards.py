"""Tensors of many images in a folder of safetensors files, which are written atomically.

A shard holds the concatenated tensors of a range of images, with offsets, instead of one tensor per image. Its metadata
is one JSON value in the header of the file. A shard gets its final name when it is complete. Therefore, a stopped
command continues with the first missing shard, and shards from several machines are merged by copying them into one
folder. The format cannot contain code.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mlickd.errors import InputError, one_line
from mlickd.files import write_atomic

# All metadata is under one key, because safetensors does not keep the order of several keys.
_METADATA_KEY = "mlickd"
_NAME = re.compile(r"(\d{5,9})-of-(\d{5,9})\.safetensors", re.ASCII)


@dataclass(frozen=True)
class ShardLayout:
    """The division of a list of images into shards.

    Attributes:
        num_images: length of the list.
        images_per_shard: number of images of each shard. The last shard may have fewer.
    """

    num_images: int
    images_per_shard: int

    def __len__(self) -> int:
        """Return the number of shards. An empty list has one empty shard."""
        return max(1, -(-self.num_images // self.images_per_shard))

    def images(self, index: int) -> range:
        """Return the positions, in the list, of the images that a shard contains."""
        start = index * self.images_per_shard
        return range(start, min(start + self.images_per_shard, self.num_images))

    def path(self, folder: str | os.PathLike[str], index: int) -> Path:
        """Return the path of a shard in a folder."""
        return Path(folder) / f"{index:05d}-of-{len(self):05d}.safetensors"

    def indices(self, part: tuple[int, int] = (1, 1)) -> range:
        """Return the indices of the shards of part ``(i, n)``: every n-th shard, starting with the i-th (from 1)."""
        number, count = part
        return range(number - 1, len(self), count)

    def other_shards(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Return the shards of other layouts in a folder, which may be missing."""
        matches = [(path, _NAME.fullmatch(path.name)) for path in Path(folder).glob("*.safetensors")]
        return [path for path, match in matches if match and int(match[2]) != len(self)]

    def remove_other_shards(self, folder: str | os.PathLike[str]) -> None:
        """Remove :meth:`other_shards`. Several processes that write shards of this layout may do this together."""
        for path in self.other_shards(folder):
            path.unlink(missing_ok=True)


def find_shards(folder: str | os.PathLike[str], remedy: str) -> list[Path]:
    """Return the paths of all shards in a folder, in order.

    Args:
        folder: folder with the shards of one :class:`ShardLayout`.
        remedy: advice for the error message.

    Raises:
        InputError: the folder is missing, or does not have all shards of one layout.
    """
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}); {remedy}") from error
    matches = [match for name in names if (match := _NAME.fullmatch(name))]
    counts = sorted({int(match[2]) for match in matches})
    problem = "has no shard"
    if len(counts) > 1:
        problem = (
            f"mixes sets of shards (of {', '.join(f'{count} files' for count in counts)}); keep the files of one set"
        )
    elif counts:
        missing = sorted(set(range(counts[0])) - {int(match[1]) for match in matches})
        if not missing:
            return [Path(folder, match[0]) for match in sorted(matches, key=lambda match: int(match[1]))]
        first = ShardLayout(counts[0], 1).path("", missing[0])
        problem = f"{len(missing)} of {counts[0]} shards are missing, the first is {first}"
    raise InputError(f"{folder}: {problem}; {remedy}")


def write_shard(
    path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any], remedy: str
) -> None:
    """Write a shard atomically. Equal content gives equal bytes.

    Args:
        path: path from :meth:`ShardLayout.path`; folders are created.
        tensors: tensors by name.
        metadata: JSON values by name. The SHA-256 of the tensors is added as ``sha256``.
        remedy: advice for the error message if the file cannot be written.
    """
    contiguous = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    text = json.dumps({**metadata, "sha256": _tensors_digest(contiguous)}, sort_keys=True, allow_nan=False)
    write_atomic(path, save(contiguous, {_METADATA_KEY: text}), remedy)


class Shard:
    """A file of tensors, which is opened for each read.

    Open files keep small allocations alive, which fragment the memory of a loader. It then cannot reuse the memory of
    images. Opening a file takes 50 microseconds.

    Args:
        path: path of the file.
        remedy: advice for the error message about a corrupt file.

    Raises:
        InputError: the file is missing.
    """

    def __init__(self, path: str | os.PathLike[str], remedy: str):
        self.path = Path(path)
        self._remedy = remedy
        self._identity = self._file_identity()

    @contextmanager
    def open(self) -> Iterator[safe_open]:
        """Yield the open safetensors file, which returns NumPy arrays; see :func:`read_rows`.

        Raises:
            InputError: the file or a tensor is missing or corrupt, or the file was replaced while it was in use.
        """
        if self._file_identity() != self._identity:
            raise InputError(f"{self.path}: was replaced while in use; start again")
        try:
            with safe_open(self.path, framework="numpy") as file:
                yield file
        except OSError as error:  # safetensors reports a missing file if too many files are open
            raise InputError(
                f"{self.path}: cannot be read ({one_line(error)}); check the disk and `ulimit -n`"
            ) from error
        except (LookupError, RecursionError, TypeError, ValueError, SafetensorError) as error:
            raise InputError(f"{self.path}: is corrupt ({one_line(error)}); {self._remedy}") from error

    def read_metadata(self) -> dict[str, Any]:
        """Return the metadata from :func:`write_shard`, including ``sha256`` of the tensors.

        Raises:
            InputError: the file is corrupt, or another program wrote it.
        """
        with self.open() as file:
            metadata = json.loads((file.metadata() or {})[_METADATA_KEY])
            if not isinstance(metadata["sha256"], str):
                raise ValueError("its metadata has no digest")
        return metadata

    def check_digest(self) -> None:
        """Read all tensors and compare them with the digest of the metadata.

        Raises:
            InputError: the digests differ, so the file is corrupt.
        """
        with self.open() as file:
            digest = _tensors_digest({name: file.get_tensor(name) for name in file.keys()})
        if digest != self.read_metadata()["sha256"]:
            raise InputError(f"{self.path}: is corrupt, the SHA-256 of its tensors is wrong; {self._remedy}")

    def _file_identity(self) -> tuple[int, int, int]:
        try:
            status = self.path.stat()
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read ({error.strerror}); {self._remedy}") from error
        return status.st_ino, status.st_size, status.st_mtime_ns


def read_rows(file: safe_open, name: str, rows: slice | int) -> np.ndarray:
    """Return rows of a tensor of an open shard; only these rows are read."""
    tensor = file.get_slice(name)
    if tensor.get_shape()[0] == 0:  # safetensors cannot slice an empty tensor, or an empty range at the end
        return file.get_tensor(name)[rows]
    return tensor[:0] if isinstance(rows, slice) and rows.start == rows.stop else tensor[rows]


def _tensors_digest(tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape} ".encode())
        digest.update(tensor.data if tensor.size else b"")
    return digest.hexdigest()
