"""The proposals of a dataset in one file: mapped into memory, safe to open, the same bytes for the same content.

All numbers are little-endian and every part starts at a multiple of 8 bytes::

    prefix       8 bytes "MLICKDPR", uint64 version of the format, uint64 length of the header
    header       JSON: method, parameters, libraries, image_digest, num_images, num_boxes, num_id_bytes
    id offsets   int64 (N + 1,)   where each image id starts in the id table
    ids          UTF-8, sorted, without separators
    box offsets  int64 (N + 1,)   where the boxes of each image start
    boxes        float32 (M, 4)   x0, y0, x1, y1 in pixels of the original image
    scores       float32 (M,)     best first within an image
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import tempfile
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np

from mlickd.errors import InputError
from mlickd.files import file_digest, whole_file

from ..catalog import dataset_root
from ..parts import whole_name

__all__ = ["ProposalStore", "proposals_path", "sort_proposals", "write_store"]

_MAGIC = b"MLICKDPR"
_VERSION = 1
_PREFIX = struct.Struct("<8sQQ")
_COUNTS = ("num_images", "num_boxes", "num_id_bytes")
_REMEDY = "make it again with tools/generate_proposals.py"
_NO_ROOM = "make room there, or choose another place for the proposals"
_MAX_SIDE = np.finfo(np.float32).max
_CHECKED_AT_ONCE = 256  # images, so that the numbers in between stay in the processor's cache


def proposals_path(name: str, method: str) -> Path:
    """Where the proposals that ``method`` made for the dataset ``name`` are kept; a part has those of the whole."""
    return dataset_root() / "proposals" / f"{whole_name(name)}_{method}.proposals"


class ProposalStore:
    """Read-only proposals by image id.

    Opening reads the header alone. Boxes stay on disk until they are asked for and are shared by all processes. A
    store can be pickled, as data loader workers need it: the copy maps the same file.

    Attributes:
        path: of the file, absolute.
        header: the method, its parameters, the versions of the libraries, the digest of the images, and counts.
    """

    path: Path
    header: dict[str, Any]

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> ProposalStore:
        """
        Raises:
            InputError: there is no such file, or it is damaged or of another format.
        """
        store = cls.__new__(cls)
        store.path = Path(path).absolute()
        store._map()
        return store

    def __len__(self) -> int:
        return self.header["num_images"]

    def __iter__(self) -> Iterator[str]:
        """The image ids, sorted by their UTF-8 bytes."""
        return (_decode(self._id(index)) for index in range(len(self)))

    def __contains__(self, image_id: object) -> bool:
        return self._find(image_id) is not None

    def __getitem__(self, image_id: str | int) -> tuple[np.ndarray, np.ndarray]:
        """
        Returns:
            Boxes (R, 4) float32 as (x0, y0, x1, y1) in pixels of the original image, and scores (R,) float32: best
            first, no box twice. Both are views of the file and cannot be written to.

        Raises:
            InputError: the store has nothing for this image.
        """
        index = self._find(image_id)
        if index is None:
            raise InputError(f"{self.path}: no proposals for image {image_id}; {_REMEDY}")
        first, last = self._box_offsets[index : index + 2]
        return self._boxes[first:last], self._scores[first:last]

    def __repr__(self) -> str:
        return f"ProposalStore({str(self.path)!r}, {len(self)} images, {self.header['num_boxes']} boxes)"

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "header": self.header}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self._map()
        if self.header != state["header"]:
            raise InputError(f"{self.path}: was replaced while it was in use; start again")

    def digest(self) -> str:
        """SHA-256 of the image ids, boxes and scores, in hexadecimal; how they were made is not in it."""
        # Read as a file, which leaves the mapping and its memory alone.
        return file_digest(self.path, self._start)

    def check(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Check that every record has proposals, all of them boxes inside its image.

        Args:
            records: with ``image_id`` and, where they are known, ``height`` and ``width``.

        Raises:
            InputError: an image is missing or has no box, or a box is not finite, inverted, of no area or outside the
                image, or a score is not finite. Names the store, the image and, where there is one, the box.
        """
        # Images of the store that no record asks for keep NaN and are not checked.
        sizes = np.full((len(self), 2), np.nan, dtype=np.float32)
        indices = {self._id(index): index for index in range(len(self))}
        for record in records:
            index = indices.get(_encode(record["image_id"]))
            if index is None:
                raise InputError(f"{self.path}: no proposals for image {record['image_id']}; {_REMEDY}")
            # In an image of unknown size every finite box has room.
            sizes[index] = record.get("width", _MAX_SIDE), record.get("height", _MAX_SIDE)
        asked = ~np.isnan(sizes[:, 0])
        counts = np.diff(self._box_offsets)
        empty = np.flatnonzero(asked & (counts == 0))
        if len(empty):
            raise InputError(f"{self.path}: image {_decode(self._id(empty[0]))} has not one box; {_REMEDY}")
        for start in range(0, len(self), _CHECKED_AT_ONCE):
            images = slice(start, start + _CHECKED_AT_ONCE)
            first = self._box_offsets[start]
            part = slice(first, first + counts[images].sum())
            x0, y0, x1, y1 = self._boxes[part].T
            width, height = np.repeat(sizes[images], counts[images], axis=0).T
            # Every comparison with NaN is false.
            valid = (0 <= x0) & (x0 < x1) & (x1 <= width) & (0 <= y0) & (y0 < y1) & (y1 <= height)
            valid &= np.isfinite(self._scores[part])
            bad = np.flatnonzero(~valid & np.repeat(asked[images], counts[images]))
            if len(bad):
                raise InputError(self._describe(int(first + bad[0]), width[bad[0]], height[bad[0]]))
            if hasattr(mmap, "MADV_DONTNEED"):
                # Stays in the system's cache, but no longer counts as memory of this process.
                self._data.madvise(mmap.MADV_DONTNEED)

    def _describe(self, position: int, width: float, height: float) -> str:
        index = int(np.searchsorted(self._box_offsets, position, side="right")) - 1
        box = self._boxes[position]
        numbers = ", ".join(f"{value:g}" for value in box)
        if not np.isfinite(self._scores[position]):
            problem = f"has the score {self._scores[position]}"
        elif not np.isfinite(box).all():
            problem = "is not finite"
        elif (box[2:] < box[:2]).any():
            problem = "is inverted (x1 < x0 or y1 < y0)"
        elif (box[2:] == box[:2]).any():
            problem = "has no area"
        else:
            problem = f"is not inside the image of {width:g} x {height:g} pixels"
        number = position - int(self._box_offsets[index])
        return f"{self.path}: image {_decode(self._id(index))}: box {number} [{numbers}] {problem}; {_REMEDY}"

    def _map(self) -> None:
        try:
            with self.path.open("rb") as file:
                self.header, start = _read_header(file, self.path)
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be opened ({error.strerror}); {_REMEDY}") from error
        num_images, num_boxes, num_id_bytes = (self.header[key] for key in _COUNTS)
        self._start = start
        offsets = list(accumulate(_part_lengths(self.header), initial=start))
        id_offsets = np.frombuffer(self._data, "<i8", num_images + 1, offsets[0])
        self._ids = memoryview(self._data)[offsets[1] : offsets[1] + num_id_bytes]
        self._box_offsets = np.frombuffer(self._data, "<i8", num_images + 1, offsets[2])
        self._boxes = np.frombuffer(self._data, "<f4", 4 * num_boxes, offsets[3]).reshape(-1, 4)
        self._scores = np.frombuffer(self._data, "<f4", num_boxes, offsets[4])
        for table, end in ((id_offsets, num_id_bytes), (self._box_offsets, num_boxes)):
            if table[0] != 0 or table[-1] != end or (np.diff(table) < 0).any():
                raise InputError(f"{self.path}: damaged index; {_REMEDY}")
        # A memoryview gives Python's integers, which are quicker to slice with than NumPy's.
        self._id_offsets = memoryview(id_offsets.astype(np.int64, copy=False))

    def _id(self, index: int) -> bytes:
        return bytes(self._ids[self._id_offsets[index] : self._id_offsets[index + 1]])

    def _find(self, image_id: object) -> int | None:
        key = _encode(image_id)
        index = bisect_left(range(len(self)), key, key=self._id)
        return index if index < len(self) and self._id(index) == key else None


def write_store(
    path: str | os.PathLike[str],
    items: Iterable[tuple[str | int, np.ndarray, np.ndarray]],
    method: str,
    parameters: Mapping[str, Any],
    image_digest: str,
    shard: tuple[int, int] | None = None,
) -> None:
    """Write a store. It appears under its name only when it is complete.

    The bytes depend on the content alone, not on the order of ``items``, which need not fit into memory.

    Args:
        path: of the file; an existing one is replaced.
        items: image id, boxes (R, 4) and scores (R,) of each image; sorted here, and boxes that come twice are dropped.
        method: that made the proposals.
        parameters: of the method; whatever JSON can hold.
        image_digest: of the list of images.
        shard: (number, count) where these are but a part of the images; the digest is then that of all.

    Raises:
        InputError: an image comes twice, or the file cannot be written.
    """
    path = Path(path)
    try:
        _write(path, items, method, parameters, image_digest, shard)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}); {_NO_ROOM}") from error


def _write(
    path: Path,
    items: Iterable[tuple[str | int, np.ndarray, np.ndarray]],
    method: str,
    parameters: Mapping[str, Any],
    image_digest: str,
    shard: tuple[int, int] | None,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    positions: dict[bytes, tuple[int, int]] = {}
    with tempfile.TemporaryFile(dir=path.parent) as spool:
        num_boxes = 0
        for image_id, boxes, scores in items:
            boxes, scores = sort_proposals(boxes, scores)
            key = _encode(image_id)
            if key in positions:
                raise InputError(f"{path}: image {image_id} comes twice; remove one of them")
            positions[key] = num_boxes, len(boxes)
            spool.write(np.column_stack((boxes, scores)).astype("<f4").tobytes())
            num_boxes += len(boxes)
        spool.flush()
        ids = sorted(positions)
        header = {
            "method": method,
            "parameters": dict(parameters),
            "libraries": library_versions(),
            "image_digest": image_digest,
            "num_images": len(ids),
            "num_boxes": num_boxes,
            "num_id_bytes": sum(map(len, ids)),
        }
        if shard is not None:
            header["shard"] = list(shard)
        rows = np.memmap(spool, "<f4", "r", shape=(num_boxes, 5)) if num_boxes else np.empty((0, 5), "<f4")
        _write_whole(path, header, ids, [positions[key] for key in ids], rows)


def sort_proposals(boxes: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Best first, equal scores in the order given, and of equal boxes only the best.

    Returns:
        Boxes (R, 4) and scores (R,), float32.
    """
    boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    scores = np.asarray(scores, dtype=np.float32).reshape(-1)
    if len(boxes) != len(scores):
        raise ValueError(f"{len(boxes)} boxes and {len(scores)} scores")
    order = np.argsort(-scores, kind="stable")
    boxes, scores = boxes[order], scores[order]
    first = np.sort(np.unique(boxes, axis=0, return_index=True)[1])
    return boxes[first], scores[first]


def library_versions() -> dict[str, str]:
    """Versions of the libraries that the bytes of a store depend on."""
    return {"numpy": np.__version__, "opencv": cv2.__version__}


def _write_whole(
    path: Path, header: dict[str, Any], ids: list[bytes], places: list[tuple[int, int]], rows: np.ndarray
) -> None:
    with whole_file(path, _NO_ROOM) as file:
        text = json.dumps(header, sort_keys=True, allow_nan=False).encode()
        text = text.ljust(_padded(_PREFIX.size + len(text)) - _PREFIX.size)
        file.write(_PREFIX.pack(_MAGIC, _VERSION, len(text)) + text)
        file.write(_offsets(map(len, ids)))
        file.write(b"".join(ids).ljust(_padded(header["num_id_bytes"]), b"\0"))
        file.write(_offsets(count for _, count in places))
        for columns in (slice(0, 4), slice(4, 5)):
            for start, count in places:
                file.write(np.ascontiguousarray(rows[start : start + count, columns]).tobytes())


def _read_header(file: BinaryIO, path: Path) -> tuple[dict[str, Any], int]:
    """The header and where it ends, checked against the length of the file."""
    length = os.fstat(file.fileno()).st_size
    prefix = file.read(_PREFIX.size)
    if len(prefix) < _PREFIX.size or not prefix.startswith(_MAGIC):
        raise InputError(f"{path}: is not a proposal store; {_REMEDY}")
    _, version, header_length = _PREFIX.unpack(prefix)
    if version != _VERSION:
        raise InputError(f"{path}: has format version {version}, not {_VERSION}; {_REMEDY}")
    start = _PREFIX.size + header_length
    try:
        header = json.loads(file.read(header_length)) if start <= length else None
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or not all(type(header.get(key)) is int and header[key] >= 0 for key in _COUNTS):
        raise InputError(f"{path}: damaged header; {_REMEDY}")
    if start + sum(_part_lengths(header)) != length:
        raise InputError(f"{path}: has {length} bytes, which is not what its header says: cut short; {_REMEDY}")
    return header, start


def _part_lengths(header: Mapping[str, int]) -> tuple[int, ...]:
    """Bytes of the parts after the header, in their order."""
    num_images, num_boxes, num_id_bytes = (header[key] for key in _COUNTS)
    table = 8 * (num_images + 1)
    return table, _padded(num_id_bytes), table, 16 * num_boxes, 4 * num_boxes


def _padded(length: int) -> int:
    return -(-length // 8) * 8


def _offsets(lengths: Iterable[int]) -> bytes:
    return np.fromiter(accumulate(lengths, initial=0), dtype="<i8").tobytes()


def _encode(image_id: object) -> bytes:
    # File names that are not UTF-8 arrive with surrogates in them.
    return str(image_id).encode("utf-8", "surrogateescape")


def _decode(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")
