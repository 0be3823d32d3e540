"""Files that are there whole or not at all, whenever the process that writes them is killed or its disk is full."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mlickd.errors import InputError

__all__ = ["DigestingFile", "remove_unfinished", "unfinished_path", "whole_file", "write_whole_file"]

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
        with self._noting_errors():
            return self._file.write(data)

    def flush(self) -> None:
        """As of any file."""
        with self._noting_errors():
            self._file.flush()

    @contextmanager
    def _noting_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = error
            raise

    @property
    def sha256(self) -> str:
        """Of all that was written, in hexadecimal."""
        return self._digest.hexdigest()


@contextmanager
def whole_file(
    path: str | os.PathLike[str], remedy: str, *, parents: bool = False, durable: bool = True
) -> Iterator[DigestingFile]:
    """Write a file under another name, which it loses as soon as all of it is there.

    Several processes may write the same file: it is that of one of them then.

    Args:
        path: what stands there before stays until then. A link stays one; a device or a pipe is written to as it is.
        remedy: for the message, should it not be possible.
        parents: make its folder where that is missing.
        durable: wait until all of it is on the disk, so that it is whole after a crash of the system, too.

    Raises:
        InputError: the system does not take it, mostly for want of room; nothing is left of it.
    """
    path = Path(path)
    file, within = None, False
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        with _opened(path, durable) as raw:
            file, within = DigestingFile(raw), True
            yield file
            within = False
    except BaseException as error:
        # What fails within the block may be another file, which is read there.
        cause = file.error if within else error
        if isinstance(cause, OSError):
            raise InputError(f"{path}: cannot be written ({cause.strerror or cause}); {remedy}") from error
        raise


def write_whole_file(
    path: str | os.PathLike[str], content: str | bytes, remedy: str, *, parents: bool = False, durable: bool = True
) -> None:
    """Write all of a file at once; text as UTF-8. Arguments and errors are those of :func:`whole_file`."""
    with whole_file(path, remedy, parents=parents, durable=durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def unfinished_path(path: Path) -> Path:
    """Where a file is written until it is whole: a name that no other process takes, be it on another machine."""
    # No longer than a system allows where the name of the file itself is not.
    return path.with_name(f"{path.name[:50]}.{secrets.token_hex(8)}{_UNFINISHED}")


def remove_unfinished(folder: Path) -> list[str]:
    """Remove what killed processes have left of files that they were writing; the names.

    No other process may write into the folder meanwhile.
    """
    paths = sorted(folder.glob(f"*{_UNFINISHED}"))
    for path in paths:
        path.unlink(missing_ok=True)
    return [path.name for path in paths]


@contextmanager
def _opened(path: Path, durable: bool) -> Iterator[BinaryIO]:
    if path.exists() and not path.is_file():
        with path.open("wb") as raw:
            yield raw
        return
    target = Path(os.path.realpath(path))
    unfinished = unfinished_path(target)
    try:
        with unfinished.open("xb") as raw:
            with suppress(OSError):  # it is new, or the file system knows no rights
                unfinished.chmod(stat.S_IMODE(target.stat().st_mode))
            yield raw
            if durable:
                raw.flush()
                os.fsync(raw.fileno())
        os.replace(unfinished, target)
        if durable:
            _synchronize(target.parent)
    except BaseException:
        with suppress(OSError):  # it may be the folder that is missing
            unfinished.unlink()
        raise


def _synchronize(folder: Path) -> None:
    """Write the names of the files to the disk."""
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows opens no folders
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
