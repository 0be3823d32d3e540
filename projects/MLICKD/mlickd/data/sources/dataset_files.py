"""Read the files of a dataset: text, and folders of images."""

import codecs
import io
import logging
import os
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from mlickd.errors import InputError, shorten_list
from mlickd.files import IMAGE_SUFFIXES, files_below

from ..records import MultiLabelDataset

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetSource:
    """The files of a dataset, the function that reads it, and additional entries for Detectron2's metadata."""

    files: tuple[Path, ...]
    load: Callable[[], MultiLabelDataset]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def exists(self) -> bool:
        """Return whether all files exist."""
        return all(map(os.path.exists, self.files))


def read_text(path: str | os.PathLike[str], remedy: str) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 with a byte order mark, with "\\n" at the end of each line.

    Raises:
        InputError: the file is missing or cannot be read (the message ends with ``remedy``), or has another encoding.
    """
    try:
        content = Path(path).read_bytes()  # once, because it may be a pipe
        # Excel writes "Unicode Text" in UTF-16.
        encoding = "utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
        return io.TextIOWrapper(io.BytesIO(content), encoding).read()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text ({error.reason} at {error.start}); save it as UTF-8") from error


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


def parse_xml(text: str) -> ElementTree.Element:
    """Return the root element of XML text, or raise a ParseError (syntax) or ValueError (DOCTYPE)."""
    if "<!DOCTYPE" in text:
        raise ValueError("a document type declaration")  # its entities can grow without bound
    return ElementTree.fromstring(text)


class ImageFolder:
    """A folder of images that finds the files that a list of file names means.

    Each subfolder is read once, because checking 269,648 files one by one takes minutes on a network disk.
    """

    def __init__(self, root: str | os.PathLike[str]):
        self.root = os.fspath(root)
        self._names: dict[str, set[str]] = {}
        self._listed: dict[str, str] = {}
        self._renamed = False

    def __contains__(self, file_name: str) -> bool:
        """Return whether ``file_name``, relative to the root and with "/", is a file or a link to a file."""
        folder, _, name = file_name.rpartition("/")
        if folder not in self._names:
            try:
                with os.scandir(os.path.join(self.root, folder)) as entries:
                    self._names[folder] = {entry.name for entry in entries if entry.is_file()}
            except (OSError, ValueError):
                self._names[folder] = set()
        return name in self._names[folder]

    @cached_property
    def _similar_names(self) -> dict[str, list[str]]:
        """Images by their base name without letter case and Unicode form, and by base name without suffix and "/"."""
        found = defaultdict(list)
        for path in images_below(self.root):
            name = Path(os.path.relpath(path, self.root)).as_posix()
            base = _fold(posixpath.basename(name))
            found[base].append(name)
            found[os.path.splitext(base)[0] + "/"].append(name)
        return found

    def find(self, file_name: str) -> list[str]:
        """Return the images that a file name of an annotation tool can mean, relative to the root.

        If the file does not exist, the name may be a URL, have backslashes, another letter case or Unicode form, no
        suffix, more or fewer leading folders, or Label Studio's 8 digits before the base name.
        """
        name = posixpath.normpath(file_name)
        if not name.startswith(("/", "../")) and name in self:
            return [name]
        *folders, base = _fold(_slashed_path(file_name)).strip("/").split("/")
        if ".." in folders:
            return []
        uploaded = re.sub("^[0-9a-f]{8}-", "", base)
        for key in (base, base + "/", uploaded, uploaded + "/"):
            fits = defaultdict(list)
            for name in self._similar_names.get(key, ()):
                parents = _fold(name).split("/")[:-1]
                shared = min(len(parents), len(folders))
                if parents[len(parents) - shared :] == folders[len(folders) - shared :]:
                    fits[shared].append(name)
            if fits:
                return fits[max(fits)]
        return []

    def find_one(self, file_name: str, where: object) -> str:
        """Return the only image that a file name can mean, relative to the root.

        The first name that differs from its file is a warning. Messages start with ``where``.

        Raises:
            InputError: the name means no image or several, or another name meant the same image.
        """
        found, where = self.find(file_name), f"{where}: file name {file_name!r}"
        if len(found) != 1:
            base = os.path.splitext(_fold(posixpath.basename(_slashed_path(file_name))))[0]
            similar = shorten_list(found or self._similar_names.get(base + "/", ["another name, or put it there"]), 3)
            problem = "can be several images" if found else "image file not found"
            raise InputError(f"{where}: {os.path.join(self.root, file_name)}: {problem}; write {similar}")
        name = posixpath.normpath(file_name)
        if name != found[0] and not self._renamed:
            self._renamed = True
            logger.warning("%s is the image %s; further names may differ from the files in this way", where, found[0])
        if (first := self._listed.setdefault(found[0], name)) != name:
            raise InputError(f"{where}: {first!r} is the same image, {found[0]}; write one of them")
        return found[0]


def normalize_unicode(text: str) -> str:
    """Return the text with composed characters, because macOS and other systems write them differently."""
    return unicodedata.normalize("NFC", text)


def normalize_name(text: str) -> str:
    """Return the name of a class with composed characters, and with one space for any white space."""
    return normalize_unicode(" ".join(text.split()))


def _fold(name: str) -> str:
    return normalize_unicode(name).casefold()


def _slashed_path(name: str) -> str:
    """Return the normalized path, with "/", of a file name or URL; "?d=" names a file that Label Studio serves."""
    if "://" in name or name.startswith("/data/local-files/"):
        name = unquote(name.partition("?d=")[2].split("&")[0] or re.sub(r"^\w+://[^/]*|[?#].*", "", name))
    return posixpath.normpath(name.replace("\\", "/"))


def relative_name(file_name: str, where: str) -> str:
    """Normalize a file name that is relative to the image folder.

    Raises:
        InputError: the name is empty, absolute, or leaves the folder by ".."; the message starts with ``where``.
    """
    name = posixpath.normpath(file_name)
    if name in (".", "..") or name.startswith(("/", "../")):
        raise InputError(f"{where}: file name {file_name!r} is not inside the image folder; correct it")
    return name


def images_below(root: str | os.PathLike[str]) -> list[str]:
    """Return the sorted paths of the images among :func:`files_below`."""
    return sorted(filter(is_image, files_below(os.fspath(root))))


def is_image(name: str) -> bool:
    """Return whether a file name or URL has the suffix of an image."""
    return os.path.splitext(_slashed_path(name))[1].lower() in IMAGE_SUFFIXES
