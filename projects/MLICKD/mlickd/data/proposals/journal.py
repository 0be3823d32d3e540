"""Proposals as they are made, in a file that survives a kill at any moment."""

from __future__ import annotations

import json
import logging
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from mlickd.errors import InputError

try:
    import fcntl
except ImportError:  # not on Windows, where nothing keeps two processes apart
    fcntl = None

__all__ = ["ProposalJournal"]

logger = logging.getLogger(__name__)

# CRC-32 of what follows, bytes of the image id, number of boxes; then the id, boxes and scores (little-endian float32).
_RECORD = struct.Struct("<III")


class ProposalJournal:
    """The proposals of the images that are done, appended one image at a time.

    The first line says what is being made. A journal that says something else is not continued but started again. What
    comes after the last whole record, left by a kill, is cut off.

    Attributes:
        done: ids of the images that are in it.
    """

    def __init__(self, path: Path, key: Mapping[str, Any]):
        """
        Args:
            path: of the file, made if it is missing.
            key: what is being made; whatever JSON can hold.

        Raises:
            InputError: the file cannot be written, or another process is writing it.
        """
        self.path = path
        self.done: set[str] = set()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            # Without a buffer: on a full disk, closing would try again to write what is in it.
            self._file = os.fdopen(descriptor, "rb+", buffering=0)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            self._lock()
            self._recover(json.dumps(key, sort_keys=True, allow_nan=False).encode() + b"\n")
        except OSError as error:
            self._file.close()
            raise self._unwritable(error) from error
        except BaseException:
            self._file.close()
            raise

    def append(self, image_id: str | int, boxes: np.ndarray, scores: np.ndarray) -> None:
        """Add an image: boxes (R, 4) and scores (R,). Once this returns, a kill of the process does not lose it.

        Raises:
            InputError: the file cannot be written, on a full disk for instance; what is in it stays.
        """
        name = str(image_id).encode("utf-8", "surrogateescape")
        payload = name + boxes.astype("<f4").tobytes() + scores.astype("<f4").tobytes()
        sizes = struct.pack("<II", len(name), len(boxes))
        end = self._file.tell()
        try:
            self._write(struct.pack("<I", zlib.crc32(sizes + payload)) + sizes + payload)
        except OSError as error:
            self._file.seek(end)
            self._file.truncate()
            raise InputError(
                f"{self.path}: cannot be written ({error.strerror}); make room there and run the same command again, "
                "which goes on from here"
            ) from error
        self.done.add(str(image_id))

    def __iter__(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Image id, boxes and scores of every image, in the order in which they were added."""
        self._file.seek(self._start)
        while (record := self._read()) is not None:
            yield record

    def remove(self) -> None:
        """Delete the file."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> ProposalJournal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            # A record lock: unlike that of flock, it is not passed on to workers, which may outlive a killed parent.
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"{self.path}: another process is making these proposals; wait for it") from error

    def _recover(self, first_line: bytes) -> None:
        self._start = len(first_line)
        found = self._file.read(len(first_line))
        if found != first_line:
            if found:
                logger.warning("%s: was begun with other settings or images; starting again", self.path)
            self._file.seek(0)
            self._file.truncate()
            self._write(first_line)
            return
        end = self._start
        while (record := self._read()) is not None:
            self.done.add(record[0])
            end = self._file.tell()
        self._file.seek(end)
        self._file.truncate()

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:  # Where there is room for a part alone, that part is written, and the next call fails.
            rest = rest[self._file.write(rest) :]

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(f"{self.path}: cannot be written ({error.strerror}); choose another place for the proposals")

    def _read(self) -> tuple[str, np.ndarray, np.ndarray] | None:
        """The record at the current place, or None where there is no whole one."""
        head = self._file.read(_RECORD.size)
        if len(head) < _RECORD.size:
            return None
        checksum, name_length, num_boxes = _RECORD.unpack(head)
        length = name_length + 20 * num_boxes
        # The numbers may be of anything: to read makes room for as much as they say.
        if length > os.fstat(self._file.fileno()).st_size - self._file.tell():
            return None
        payload = self._file.read(length)
        if len(payload) < length or zlib.crc32(head[4:] + payload) != checksum:
            return None
        numbers = np.frombuffer(payload, "<f4", offset=name_length)
        name = payload[:name_length].decode("utf-8", "surrogateescape")
        return name, numbers[: 4 * num_boxes].reshape(-1, 4), numbers[4 * num_boxes :]
