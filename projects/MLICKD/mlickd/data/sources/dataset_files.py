"""Read the files of a dataset: text in UTF-8, and folders of images."""

import os
import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlickd.errors import InputError

from ..records import MultiLabelDataset

# Photos in a folder, for all commands. A photo that Pillow cannot read, such as HEIC, is reported and not passed over.
IMAGE_SUFFIXES = frozenset(
    ".apng .avif .avifs .bmp .dib .gif .heic .heif .hif .j2c .j2k .jfif .jp2 .jpc .jpe .jpeg .jpf .jpg .jpx .jxl .mpo "
    ".pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()
)


@dataclass(frozen=True)
class DatasetSource:
    """The files of a dataset, the function that reads it, and additional entries for Detectron2's metadata."""

    files: tuple[Path, ...]
    load: Callable[[], MultiLabelDataset]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def exists(self) -> bool:
        """Return whether all files exist."""
        return all(path.exists() for path in self.files)


def read_text(path: str | os.PathLike[str], remedy: str) -> str:
    """Return the text of a UTF-8 file, without a byte order mark and with "\\n" at the end of each line.

    Raises:
        InputError: the file is missing, cannot be read, or is not UTF-8 text; the message ends with ``remedy``.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not UTF-8 text: {error.reason} at {error.start}"
        raise InputError(f"{path}: cannot be read ({reason}); {remedy}") from error


def read_lines(path: str | os.PathLike[str], remedy: str) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, stripped text) of the lines that are not blank; see :func:`read_text`."""
    for number, line in enumerate(read_text(path, remedy).split("\n"), start=1):
        if text := line.strip():
            yield number, text


def read_unique_lines(
    path: Path, remedy: str, clean: Callable[[str, str], str] = lambda text, where: text
) -> list[str]:
    """Return the lines of a file that are not blank, after ``clean(line, "FILE: line NUMBER")``.

    Raises:
        InputError: the file cannot be read or is empty, or a line occurs twice.
    """
    numbers: dict[str, int] = {}
    for number, text in read_lines(path, remedy):
        where = f"{path}: line {number}"
        if (text := clean(text, where)) in numbers:
            raise InputError(f"{where}: {text!r} is also in line {numbers[text]}; remove one")
        numbers[text] = number
    if not numbers:
        raise InputError(f"{path}: is empty; {remedy}")
    return list(numbers)


class ImageFolder:
    """A folder of images with a fast check that a file exists. Errors name ``listed_by``, the file with the file names.

    Each subfolder is read once, because checking 269,648 files one by one takes minutes on a network disk.
    """

    def __init__(self, root: str | os.PathLike[str], listed_by: object):
        self.root = os.fspath(root)
        self.listed_by = listed_by
        self._names: dict[str, set[str]] = {}

    def __contains__(self, file_name: str) -> bool:
        """Return whether ``file_name``, relative to the root and with "/", is a file or a link to a file."""
        folder, _, name = file_name.rpartition("/")
        if folder not in self._names:
            try:
                with os.scandir(os.path.join(self.root, folder)) as entries:
                    self._names[folder] = {entry.name for entry in entries if entry.is_file()}
            except (OSError, ValueError):
                self._names[folder] = set()
        # Some file systems ignore letter case or Unicode normalization.
        return name in self._names[folder] or os.path.isfile(os.path.join(self.root, file_name))

    def require(self, file_name: str) -> str:
        """Return the path of a file in the folder, or raise an InputError if the file does not exist."""
        path = os.path.join(self.root, file_name)
        if file_name not in self:
            raise InputError(f"{path}: image file not found, but {self.listed_by} lists it; correct one of them")
        return path


def relative_name(file_name: str, where: str) -> str:
    """Normalize a file name that is relative to the image folder.

    Raises:
        InputError: the name is empty, absolute, or leaves the folder by ".."; the message starts with ``where``.
    """
    name = posixpath.normpath(file_name)
    if name in (".", "..") or name.startswith(("/", "../")):
        raise InputError(f"{where}: file name {file_name!r} is not inside the image folder; correct it")
    return name


def files_below(root: str) -> Iterator[str]:
    """Yield the paths of the files in a folder and its subfolders in any order, except hidden files and folders.

    Links to folders are followed.
    """
    visited = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        visited.add(os.path.realpath(folder))
        subfolders[:] = [
            name
            for name in subfolders
            # A link to a visited folder may form a cycle.
            if not name.startswith(".") and os.path.realpath(os.path.join(folder, name)) not in visited
        ]
        for name in names:
            if not name.startswith("."):
                yield os.path.join(folder, name)
