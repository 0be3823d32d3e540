"""Files that are there whole or not at all, whenever the process that writes them is killed or its disk is full."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mlickd.errors import InputError

__all__ = ["DigestingFile", "remove_unfinished", "whole_file"]

# Behind the name of a file, until it is whole.
_UNFINISHED = ".unfinished"


class DigestingFile:
    """A file to write into, and the SHA-256 of what was written."""

    def __init__(self, file: BinaryIO):
        """
        Args:
            file: open for writing.
        """
        self._file = file
        self._digest = hashlib.sha256()
        # PyTorch raises an error of its own in place of this one.
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """As of any file.

        Raises:
            OSError: the system does not take it.
        """
        self._digest.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """As of any file."""
        self._file.flush()

    @property
    def sha256(self) -> str:
        """Of all that was written, in hexadecimal."""
        return self._digest.hexdigest()


@contextmanager
def whole_file(path: Path, remedy: str) -> Iterator[DigestingFile]:
    """Write a file under another name, which it loses as soon as all of it is on the disk.

    Args:
        path: what stands there before stays until then.
        remedy: for the message, should it not be possible.

    Raises:
        InputError: the system does not take it, mostly for want of room; nothing is left of it.
    """
    unfinished = path.with_name(f"{path.name}{_UNFINISHED}")
    file = None
    try:
        with unfinished.open("wb") as raw:
            file = DigestingFile(raw)
            yield file
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(unfinished, path)
        _synchronise(path.parent)
    except BaseException as error:
        with suppress(OSError):  # it may be the folder that is missing
            unfinished.unlink()
        cause = (file and file.error) or error
        if isinstance(cause, OSError):
            raise InputError(f"{path}: cannot be written ({cause.strerror or cause}); {remedy}") from error
        raise


def remove_unfinished(folder: Path) -> list[str]:
    """Remove what killed processes have left of files that they were writing; the names."""
    paths = sorted(folder.glob(f"*{_UNFINISHED}"))
    for path in paths:
        path.unlink(missing_ok=True)
    return [path.name for path in paths]


def _synchronise(folder: Path) -> None:
    """Write the names of the files to the disk."""
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows opens no folders
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
