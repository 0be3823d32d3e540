"""The images of a dataset on disk: which of the listed are there, and which that are there nobody lists."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from mlickd.errors import InputError

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})

# Of "/name/": what may be spelt shorter, or lead elsewhere. For speed alone: a path object takes 30 microseconds.
_LONGER_OR_OUTSIDE = re.compile(r"/\.{0,2}/|[\\:]")


class ImageFolder:
    """A directory of images, asked for by their names in it.

    Each of its directories is read once, as a whole: to ask for 269,648 files one by one takes minutes where the disk
    is behind a network.
    """

    def __init__(self, root: str | os.PathLike[str], listed_by: object):
        """
        Args:
            root: the directory.
            listed_by: the file that lists its images, for messages.

        Raises:
            InputError: there is no such directory.
        """
        self.root = os.fspath(root)
        self.listed_by = listed_by
        self._names: dict[str, set[str]] = {}
        if not os.path.isdir(self.root):
            raise InputError(f"{self.root}: image folder of {listed_by} not found; put the images there")

    def __contains__(self, file_name: str) -> bool:
        """Whether `file_name`, relative to the root and with "/", is a file. Symbolic links are followed."""
        directory, _, name = file_name.rpartition("/")
        if directory not in self._names:
            try:
                with os.scandir(os.path.join(self.root, directory)) as entries:
                    self._names[directory] = {entry.name for entry in entries if entry.is_file()}
            except (OSError, ValueError):
                self._names[directory] = set()
        # Some file systems find a name that is spelt otherwise, in letter case or in Unicode's composition.
        return name in self._names[directory] or os.path.isfile(self.path(file_name))

    def path(self, file_name: str) -> str:
        """The path of a file of the folder."""
        return os.path.join(self.root, file_name)

    def require(self, file_name: str, where: str = "") -> str:
        """The path of a file that must be there.

        Args:
            file_name: relative to the root.
            where: it is listed, such as " in line 4", for the message.

        Raises:
            InputError: it is not a file.
        """
        if file_name not in self:
            problem = "a folder" if os.path.isdir(self.path(file_name)) else "image file not found"
            other = self._other_letters(file_name)
            remedy = f"write {other!r} there" if other else "put the photo there, or take it out of that list"
            raise InputError(f"{self.path(file_name)}: {problem}, but {self.listed_by} lists it{where}; {remedy}")
        return self.path(file_name)

    def _other_letters(self, file_name: str) -> str:
        """The name of a file that differs in its capital letters alone, or in how its ending is spelt; else empty."""
        directory, _, name = file_name.rpartition("/")
        alike = [other for other in self._names[directory] if _plain(other) == _plain(name)]
        return "/".join(filter(None, [directory, alike[0]])) if len(alike) == 1 else ""


def _plain(name: str) -> str:
    return re.sub(r"\.jpe?g$", ".jpg", name.lower())


def relative_name(file_name: str, where: str, root: str = "images/") -> str:
    """A file name in its shortest form.

    Args:
        file_name: relative to an image folder.
        where: it was read, for the message.
        root: what the message calls the folder.

    Raises:
        InputError: it is empty, absolute, or may leave the folder by "..". Links inside the folder may lead anywhere.
    """
    if not _LONGER_OR_OUTSIDE.search(f"/{file_name}/"):
        return file_name
    path, elsewhere = PurePosixPath(file_name), PureWindowsPath(file_name)
    if not path.name or path.is_absolute() or elsewhere.drive or elsewhere.root or ".." in elsewhere.parts:
        raise InputError(f"{where}: file name {file_name!r} is not inside {root}; give it relative to that folder")
    return str(path)


def unlisted_images(image_root: str | os.PathLike[str], records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Images below a folder that no record names: sorted, relative to it.

    They are no error in loading: a folder may hold the images of several splits.

    Args:
        image_root: the folder; directories that are links are followed.
        records: with `file_name` as the loaders give it.
    """
    resolved = cache(os.path.realpath)  # directories alone: a file that is a link has the name that is listed
    listed = {
        (resolved(os.path.dirname(record["file_name"])), os.path.basename(record["file_name"])) for record in records
    }
    root = os.path.normpath(image_root)
    found = (os.path.split(path) for path in images_below(root))
    return sorted(
        Path(directory, name).relative_to(root).as_posix()
        for directory, name in found
        if (resolved(directory), name) not in listed
    )


def images_below(
    root: str | os.PathLike[str], *, hidden: bool = True, suffixes: Collection[str] = IMAGE_SUFFIXES
) -> Iterator[str]:
    """Paths of the images below a folder, in any order; directories that are links are followed.

    Args:
        root: the folder.
        hidden: whether to give files and directories whose names begin with a dot, too.
        suffixes: in lower case, with the dot, of the files that count as images.
    """
    visited = set()
    for directory, subdirectories, names in os.walk(root, followlinks=True):
        visited.add(os.path.realpath(directory))
        # A link to a directory that was seen before may be a circle.
        subdirectories[:] = [
            name
            for name in subdirectories
            if (hidden or not name.startswith(".")) and os.path.realpath(os.path.join(directory, name)) not in visited
        ]
        for name in names:
            if (hidden or not name.startswith(".")) and os.path.splitext(name)[1].lower() in suffixes:
                yield os.path.join(directory, name)
