"""Reading of dataset files: text written by any program, and folders of images."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlickd.errors import InputError

from ..records import MultiLabelDataset

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class DatasetSource:
    """The files of a dataset, the function that reads it, and further entries of Detectron2's metadata."""

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
    except FileNotFoundError:
        raise InputError(f"{path}: file not found; {remedy}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None


def read_lines(path: str | os.PathLike[str], remedy: str) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, stripped text) of the lines that are not blank; see :func:`read_text`."""
    for number, line in enumerate(read_text(path, remedy).split("\n"), start=1):
        if text := line.strip():
            yield number, text


def read_unique_lines(path: Path, remedy: str, clean: Callable[[str, str], str] | None = None) -> list[str]:
    """Return the lines of a file that are not blank, each passed through ``clean(line, place for messages)``.

    Raises:
        InputError: the file cannot be read or is empty, or a line occurs twice.
    """
    numbers: dict[str, int] = {}
    for number, text in read_lines(path, remedy):
        where = f"{path}: line {number}"
        text = clean(text, where) if clean else text
        if text in numbers:
            raise InputError(f"{where}: {text!r} is also in line {numbers[text]}; remove one")
        numbers[text] = number
    if not numbers:
        raise InputError(f"{path}: is empty; {remedy}")
    return list(numbers)


class ImageFolder:
    """A folder of images with a fast lookup of file names.

    Each subfolder is listed once, because checking 269,648 files one by one takes minutes on a network disk.
    """

    def __init__(self, root: str | os.PathLike[str], listed_by: object):
        """Open the folder ``root``, whose images the file ``listed_by`` lists.

        Raises:
            InputError: there is no such folder.
        """
        self.root = os.fspath(root)
        self.listed_by = listed_by
        self._names: dict[str, set[str]] = {}
        if not os.path.isdir(self.root):
            raise InputError(f"{self.root}: image folder of {listed_by} not found; put the images there")

    def __contains__(self, file_name: str) -> bool:
        """Return whether ``file_name``, relative to the root and with "/", is a file. Symbolic links are followed."""
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
        """Return the path of a file in the folder, or raise an InputError if there is no such file."""
        path = os.path.join(self.root, file_name)
        if file_name not in self:
            raise InputError(f"{path}: image file not found, but {self.listed_by} lists it; correct one of them")
        return path


def relative_name(file_name: str, where: str, root: str = "images/") -> str:
    """Return a file name, relative to the folder ``root``, in its shortest form.

    Raises:
        InputError: the name is empty, absolute, or leaves the folder by ".."; the message starts with ``where``.
    """
    name = posixpath.normpath(file_name)
    if name in (".", "..") or name.startswith(("/", "../")):
        raise InputError(f"{where}: file name {file_name!r} is not inside {root}; give it relative to that folder")
    return name


def images_below(
    root: str | os.PathLike[str], *, hidden: bool = True, suffixes: Collection[str] = IMAGE_SUFFIXES
) -> Iterator[str]:
    """Yield the paths of the images below a folder, in any order. Links to folders are followed.

    Args:
        root: path of the folder.
        hidden: whether to include files and folders whose names start with a dot.
        suffixes: endings of image files, in lower case and with the dot.
    """
    visited = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        visited.add(os.path.realpath(folder))
        # A link to a folder that was visited before may form a cycle.
        subfolders[:] = [
            name
            for name in subfolders
            if (hidden or not name.startswith(".")) and os.path.realpath(os.path.join(folder, name)) not in visited
        ]
        for name in names:
            if (hidden or not name.startswith(".")) and os.path.splitext(name)[1].lower() in suffixes:
                yield os.path.join(folder, name)
