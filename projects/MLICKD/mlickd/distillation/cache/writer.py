"""Writing one shard: room first, then rows in any order by several processes, each image marked when it is whole.

Rows are written to the files and not through a mapping of them, where a full disk would be a signal that kills.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from mlickd.distillation.regions import RegionKnowledge
from mlickd.errors import InputError
from mlickd.files import remove_unfinished

from .header import HEADER_FILE, NO_ROOM, differences, read_json, write_json
from .layout import IDS_FILE, allocate, array_path, array_specs, map_array, map_array_name, selected_offsets

__all__ = ["ShardWriter", "prepare_shard", "unfinished_images", "writable"]

logger = logging.getLogger(__name__)

# Of the disk, kept free beside the arrays for the file system's own tables.
_SPARE = 0.01


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Turn what the system says of a disk that is full or cannot be written into an InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error}); {NO_ROOM}") from error


def prepare_shard(
    folder: Path,
    header: Mapping[str, Any],
    ids: Sequence[str],
    counts: Sequence[int],
    boxes: Iterable[np.ndarray],
) -> None:
    """Make the files of a shard at their full length, or find that they are there for the same.

    Args:
        folder: of the shard; :func:`shard_lock` is held.
        header: see :func:`shard_header`.
        ids: of its N images, sorted.
        counts: R_n, the number of regions of each.
        boxes: (R_n, 4) of each; asked for only where the files are made.

    Raises:
        InputError: the folder holds a shard that was made from something else, or the disk has too little room.
    """
    offsets = np.cumsum([0, *counts], dtype=np.int64)
    specs = array_specs(header, offsets)
    begun = (folder / HEADER_FILE).exists()
    if begun:
        found = read_json(folder / HEADER_FILE)
        changed = differences(found, header) if isinstance(found, dict) else "a header that is damaged"
        if changed:
            raise InputError(
                f"{folder}: was begun with {changed}; change the command back, remove this folder, or choose another "
                "KD.CACHE"
            )
        for name, spec in specs.items():
            map_array(folder, name, spec)
    total = sum(spec.num_bytes for spec in specs.values())
    needed = max(total - sum(_on_disk(array_path(folder, name)) for name in specs), 0) if begun else total
    free = shutil.disk_usage(folder).free
    logger.info(
        "%s: %d images, %d regions, %s when it is whole (%s free on its disk)",
        folder, len(ids), offsets[-1], readable_size(total), readable_size(free),
    )  # fmt: skip
    if needed * (1 + _SPARE) > free:
        raise InputError(
            f"{folder}: needs {readable_size(needed)} more, and its disk has {readable_size(free)} free; choose "
            "another KD.CACHE, a lower KD.REGIONS.TOP_K, --no-mirrored (half of it), --no-features (for image "
            "scores alone), or --shard on several disks"
        )
    if begun:
        return
    remove_unfinished(folder)
    for name, spec in specs.items():
        allocate(folder, name, spec)
    with array_path(folder, "region_offsets").open("r+b") as file:
        _write_rows(file, specs["region_offsets"].num_bytes, 0, offsets.astype("<i8"))
    with array_path(folder, "boxes").open("r+b") as file:
        for start, of_image in zip(offsets[:-1], boxes, strict=True):
            _write_rows(file, specs["boxes"].num_bytes, int(start) * 16, of_image.astype("<f4"))
    write_json(folder / IDS_FILE, list(ids))
    # The last file: where it is, the others are whole.
    write_json(folder / HEADER_FILE, header)


def unfinished_images(folder: Path, count: int) -> list[int]:
    """The images, of ``count``, that are not complete."""
    with array_path(folder, "done").open("rb") as file:
        file.seek(-count, os.SEEK_END)
        return np.flatnonzero(np.frombuffer(file.read(count), np.uint8) != 1).tolist()


def readable_size(num_bytes: int) -> str:
    """In units of 1024."""
    size, units = float(num_bytes), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size, _ = size / 1024, units.pop(0)
    return f"{size:.0f} {units[0]}" if units[0] == "bytes" else f"{size:.1f} {units[0]}"


class ShardWriter:
    """Writes what the teacher says into a shard that :func:`prepare_shard` has made."""

    def __init__(self, folder: Path, header: Mapping[str, Any], region_offsets: np.ndarray):
        """
        Args:
            folder: of the shard.
            header: of the shard.
            region_offsets: (N + 1,), of its file.
        """
        self.folder = folder
        self.header = header
        self.regions = region_offsets
        self.selected = selected_offsets(header, region_offsets) if header["features"] is not None else None
        self.specs = array_specs(header, region_offsets)
        self._files = {name: array_path(folder, name).open("r+b") for name in self.specs}

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()

    def write(
        self, image: int, image_id: object, image_size: tuple[int, int], views: Sequence[RegionKnowledge]
    ) -> None:
        """Write all of one image.

        Args:
            image: its number in the shard.
            image_id: for messages.
            image_size: height and width in pixels.
            views: what the teacher says of the image and, where that is kept, of the image mirrored.

        Raises:
            InputError: a value of the teacher is not finite in 16 bits.
        """
        self._put("image_sizes", (image,), np.array(image_size))
        start = int(self.regions[image])
        for view, known in enumerate(views):
            for name, logits, axis in (
                ("class_logits", known.class_logits, 1),
                ("detection_logits", known.detection_logits, 0),
            ):
                if len(logits) > 0:
                    # Far below the largest a probability is 0 in any precision.
                    shifted = (logits - logits.amax(dim=axis, keepdim=True)).clamp(min=torch.finfo(torch.float16).min)
                    self._put(name, (view, start), self._half(shifted, f"{name} of image {image_id}"))
            if self.selected is not None:
                self._write_features(image, image_id, view, known)
            for (kind, layer), of_view in known.maps.items():
                name = map_array_name(kind, layer)
                self._put(name, (view, image), self._half(of_view, f"{kind} {layer} of image {image_id}"))

    def finish(self, images: Sequence[int]) -> None:
        """Mark images as complete, after all that was written of them has reached the disk."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        for image in images:
            self._put("done", (image,), np.array(1))
        self._files["done"].flush()

    def _write_features(self, image: int, image_id: object, view: int, known: RegionKnowledge) -> None:
        start = int(self.selected[image])
        self._put("selected_counts", (view, image), np.array(len(known.selected)))
        self._put("selected", (view, start), known.selected.cpu().numpy())
        self._put("weights", (view, start), known.weights.cpu().numpy())
        if known.proposal_weights is not None:
            self._put("proposal_weights", (view, start), known.proposal_weights.cpu().numpy())
        layers = self.header["features"]["layers"]
        self._put("map_sizes", (image,), np.array([known.map_sizes[layer] for layer in layers]))
        for layer in layers:
            half = self._half(known.features[layer], f"feature {layer} of image {image_id}")
            self._put(f"features_{layer}", (view, start), half)

    def _half(self, values: torch.Tensor, what: str) -> np.ndarray:
        half = values.half()
        if not torch.isfinite(half).all():
            raise InputError(
                f"{self.folder}: the teacher's {what} is not finite in 16 bits (largest "
                f"{values.abs().max():g}); train the teacher with a lower rate, or do without KD.CACHE"
            )
        return half.cpu().numpy()

    def _put(self, name: str, place: tuple[int, ...], values: np.ndarray) -> None:
        """Write ``values`` from the indices ``place`` on, which are of the array's first dimensions."""
        spec = self.specs[name]
        strides = [int(np.prod(spec.shape[axis + 1 :], dtype=object)) for axis in range(len(place))]
        first = sum(index * stride for index, stride in zip(place, strides, strict=True)) * spec.dtype.itemsize
        _write_rows(self._files[name], spec.num_bytes, first, values.astype(spec.dtype))


def _write_rows(file: Any, array_bytes: int, first: int, values: np.ndarray) -> None:
    """Write at byte ``first`` of an array that is the last ``array_bytes`` of its file."""
    file.seek(first - array_bytes, os.SEEK_END)
    file.write(np.ascontiguousarray(values).tobytes())


def _on_disk(path: Path) -> int:
    """Bytes that a file takes on its disk; its length where the system does not say."""
    status = path.stat()
    return getattr(status, "st_blocks", status.st_size // 512) * 512
