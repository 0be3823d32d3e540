"""Files that are written atomically, digests, checks of a user's paths, and photos in folders."""

import glob
import hashlib
import json
import logging
import os
import secrets
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from mlickd.errors import InputError, shorten_list

logger = logging.getLogger(__name__)

# Photos in a folder, for all commands. A photo that Pillow cannot read, such as HEIC, is reported.
IMAGE_SUFFIXES = frozenset(
    ".apng .avif .avifs .bmp .dib .gif .heic .heif .hif .j2c .j2k .jfif .jp2 .jpc .jpe .jpeg .jpf .jpg .jpx .jxl .mpo "
    ".pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()
)

# Suffix of an incomplete file.
_UNFINISHED = ".unfinished"


class WritableFile:
    """A file open for writing that keeps the error of the last failed write as ``error``.

    ``torch.save`` raises a different error, which hides the reason.
    """

    def __init__(self, file: BinaryIO):
        self.flush = file.flush
        self.error: OSError | None = None
        self._file = file

    def write(self, data: bytes) -> int:
        """Write bytes and return their number."""
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise


@contextmanager
def atomic_writer(path: str | os.PathLike[str], remedy: str) -> Iterator[WritableFile]:
    """Open a file for writing. It replaces ``path`` only when it is complete.

    The content goes to a new file in the same folder, which is synchronized to disk and renamed at the end. Missing
    folders are created. If several processes write the same file, the last one wins.

    Args:
        path: file to write. Symbolic links are followed. A device or a pipe is written directly.
        remedy: advice for the error message.

    Raises:
        InputError: the file cannot be written, for example because the disk is full. No part of it is left.
    """
    path = Path(path)
    file = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _replacement(path) as raw:
            file = WritableFile(raw)
            yield file
    except BaseException as error:
        cause = (file and file.error) or error
        if not isinstance(cause, OSError):
            raise
        raise InputError(f"{path}: cannot be written ({cause.strerror or cause}); {remedy}") from error


@contextmanager
def _replacement(path: Path) -> Iterator[BinaryIO]:
    if path.exists() and not path.is_file():
        with path.open("wb") as raw:
            yield raw
        return
    target = Path(os.path.realpath(path))
    # The name is unique among all machines. It has at most 228 bytes; file systems usually allow 255.
    unfinished = target.with_name(f"{target.name[:50]}.{secrets.token_hex(8)}{_UNFINISHED}")
    try:
        with unfinished.open("xb") as raw:
            with suppress(OSError):  # the target does not exist, or its file system does not support permissions
                unfinished.chmod(stat.S_IMODE(target.stat().st_mode))
            yield raw
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(unfinished, target)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise
    # The folder may be unreadable, and some network file systems do not synchronize folders.
    with suppress(OSError):
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_atomic(path: str | os.PathLike[str], content: str | bytes, remedy: str) -> None:
    """Write bytes, or text in UTF-8, with :func:`atomic_writer`."""
    with atomic_writer(path, remedy) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_json(path: str | os.PathLike[str], content: dict) -> None:
    """Write ``content`` as JSON, see :func:`strict_json`."""
    write_atomic(path, f"{strict_json(content)}\n", "give another path")


def strict_json(content: dict) -> str:
    """Return JSON that every parser can read: NaN and infinity become null."""
    return json.dumps(json.loads(json.dumps(content), parse_constant=lambda name: None), indent=2)


def remove_unfinished(folder: Path) -> list[str]:
    """Remove the incomplete files of killed processes and return their names.

    No other process may write into the folder at the same time.
    """
    paths = sorted(folder.glob(f"*{_UNFINISHED}"))
    for path in paths:
        path.unlink(missing_ok=True)
    return [path.name for path in paths]


def check_writable(path: str | os.PathLike[str]) -> None:
    """Check that a file can be written, before the work that produces it starts.

    Raises:
        InputError: the path is a folder, or is not writable.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise InputError(f"{path}: is a folder; give a file")
    folder = next(parent for parent in target.parents if parent.exists())
    changed = folder if target.is_file() or not target.exists() else target  # a device is written directly
    if not folder.is_dir() or not os.access(changed, os.W_OK):
        raise InputError(f"{path}: {folder} is not writable; give another path")


def require_file(path: str, field: str, remedy: str) -> None:
    """Check that a path is an existing file.

    Args:
        path: path of the file.
        field: option or configuration key with the path, for the error message.
        remedy: advice for the error message if the file is missing.

    Raises:
        InputError: the path is a folder or a URL, or does not exist.
    """
    if os.path.isfile(path):
        return
    problem = "is a folder; give a file in it" if os.path.isdir(path) else f"no such file; {remedy}"
    raise InputError(f"{field} {path}: {'is a URL; download it and give the file' if '://' in path else problem}")


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file in hexadecimal, cached until its size or its modification time changes."""
    status = os.stat(path)
    return _digest(os.path.abspath(path), status.st_size, status.st_mtime_ns)


@lru_cache
def _digest(path: str, size: int, modified: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def expand_path(path: str | os.PathLike[str]) -> list[str]:
    """Return the sorted photos in a folder (see :func:`files_below`) or among the matches of a pattern, or the path.

    A glob pattern has ``*``, ``?`` or ``[]``; ``**`` matches any number of folders. The name of an existing file is
    never a pattern. Other files in the folder or among the matches are counted in a log message.
    """
    path = str(Path(os.path.expanduser(path)))
    is_folder = os.path.isdir(path)
    if not is_folder and (os.path.exists(path) or not glob.has_magic(path)):
        return [path]
    files = list(files_below(path) if is_folder else filter(os.path.isfile, glob.glob(path, recursive=True)))
    photos = sorted(file for file in files if Path(file).suffix.lower() in IMAGE_SUFFIXES)
    if others := Counter(Path(file).suffix or "no suffix" for file in {*files}.difference(photos)):
        kinds = shorten_list([f"{suffix} {count}" for suffix, count in others.most_common()])
        logger.warning("%s: %d of %d files are not photos: %s; skipped", path, others.total(), len(files), kinds)
    return photos


def files_below(root: str) -> Iterator[str]:
    """Yield the paths of the files in a folder and its subfolders in any order, except hidden files and folders.

    Links to folders are followed. A folder with several names has only one of them, at best not the name of a link.
    """
    visited = {os.path.realpath(root)}  # a link to one of these folders may form a cycle
    for folder, subfolders, names in os.walk(root, followlinks=True):
        paths = {name: os.path.realpath(os.path.join(folder, name)) for name in subfolders if not name.startswith(".")}
        in_order = sorted(paths, key=lambda name: (os.path.islink(os.path.join(folder, name)), name))
        subfolders[:] = [name for name in in_order if not (paths[name] in visited or visited.add(paths[name]))]
        for name in names:
            if not name.startswith("."):
                yield os.path.join(folder, name)
