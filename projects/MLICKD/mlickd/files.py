"""Files: atomic writes, digests, and checks of paths that a user gives."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from mlickd.errors import InputError

__all__ = [
    "DigestingFile",
    "check_writable",
    "file_digest",
    "is_file",
    "is_folder",
    "remove_unfinished",
    "unfinished_path",
    "whole_file",
    "write_whole_file",
]

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


def check_writable(path: str | os.PathLike[str]) -> None:
    """See that a file can be written, before there is one; nothing is left of the trial.

    Raises:
        InputError: it cannot.
    """
    missing: list[Path] = []
    try:
        target = Path(path).expanduser()
        new = not target.exists()
        if new:
            target = Path(os.path.realpath(target))  # of a link to a file that is to come, the link stays
        missing += [folder for folder in target.parents if not folder.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "a", encoding="utf-8"):
            pass
        if target.is_file():  # and no device: another one is written beside it first
            unfinished = unfinished_path(target.resolve())
            unfinished.touch(exist_ok=False)
            unfinished.unlink()
        if new:
            target.unlink()
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); give another path") from error
    finally:
        for folder in missing:
            with suppress(OSError):  # it was not made, or another process has put something there
                folder.rmdir()


def is_file(path: str, field: str) -> bool:
    """Return whether a path is a file, as Detectron2's ``PathManager.isfile`` does.

    Args:
        path: given by a user.
        field: option or configuration key that names the path, for the message.

    Raises:
        InputError: the path is a URL. Whether it exists is not known before the download.
    """
    return _path_manager_test("isfile", path, field)


def is_folder(path: str, field: str) -> bool:
    """Return whether a path is a folder; see :func:`is_file`."""
    return _path_manager_test("isdir", path, field)


def _path_manager_test(method: str, path: str, field: str) -> bool:
    from detectron2.utils.file_io import PathManager  # prediction with an exported student runs without Detectron2

    try:
        return getattr(PathManager, method)(path)
    except NotImplementedError:
        raise InputError(f"{field} {path}: is a URL; download the file and give its path") from None


def file_digest(path: str | os.PathLike[str], start: int = 0) -> str:
    """SHA-256, in hexadecimal, of a file from byte ``start`` on.

    A file is read again where its size or its time of change is another.
    """
    status = os.stat(path)
    return _digest(os.path.abspath(path), start, status.st_size, status.st_mtime_ns)


@lru_cache
def _digest(path: str, start: int, size: int, modified: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        file.seek(start)
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
