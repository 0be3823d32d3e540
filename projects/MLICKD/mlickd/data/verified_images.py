"""Which images were found good before and have not changed, so that the next command need not decode them again."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import PIL
from platformdirs import user_cache_path

from mlickd.errors import InputError
from mlickd.files import write_whole_file

__all__ = ["VerifiedImages", "cache_directory"]

logger = logging.getLogger(__name__)

# Time stamps of some file systems are as coarse as this: a file may change and keep the stamp of just now.
_TOO_YOUNG = 2 * 10**9  # nanoseconds

# Bytes and time of change in nanoseconds of a file, and height and width of its record, which it was found to have.
_Entry = tuple[int, int, int | None, int | None]


class _Folder(msgspec.Struct):
    """What a file of the cache holds: the images of one folder by their names, as one version of Pillow found them."""

    pillow: str
    images: dict[str, _Entry]


def cache_directory() -> Path:
    """Where this project keeps what it can make again: $MLICKD_CACHE, else a folder in the user's cache."""
    given = os.environ.get("MLICKD_CACHE")
    return Path(given).expanduser().absolute() if given else user_cache_path("mlickd", appauthor=False)


class VerifiedImages:
    """Images that were found good, by path, size and time of change; kept in a file for each of their folders.

    That is a help and never a hindrance: what cannot be read or written is as good as nothing. Each file is replaced as
    a whole, so runs beside each other do no harm; at worst one forgets what the other has found.
    """

    def __init__(self, directory: Path | None = None):
        """
        Args:
            directory: of the files; made when it is needed. None takes one in `cache_directory`.
        """
        self.directory = cache_directory() / "verified_images" if directory is None else directory
        self._entries: dict[str, _Entry] = {}

    def unverified(self, records: Iterable[dict]) -> list[dict]:
        """The records whose image was not found good before, or has changed since, in their order.

        Args:
            records: with `file_name`, and optionally `height` and `width` in pixels.
        """
        folders: dict[str, dict[str, _Entry]] = {}
        found = []
        for record in records:
            path = os.path.abspath(record["file_name"])
            folder, name = os.path.split(path)
            if folder not in folders:
                folders[folder] = self._read(folder)
            entry = _entry(record)
            if entry is None or folders[folder].get(name) != entry:
                found.append(record)
                # As it is before it is decoded: what changes meanwhile does not count as verified.
                self._entries[path] = entry
        return found

    def add(self, records: Sequence[dict]) -> None:
        """Keep that the images of these records, which `unverified` has given, are good."""
        if not self.directory.is_absolute():  # where nobody knows the user's home
            return
        latest = time.time_ns() - _TOO_YOUNG
        folders: dict[str, dict[str, _Entry]] = {}
        for record in records:
            path = os.path.abspath(record["file_name"])
            entry = self._entries[path]
            if entry is not None and entry[1] < latest:
                folder, name = os.path.split(path)
                folders.setdefault(folder, {})[name] = entry
        for folder, images in folders.items():
            try:
                self._write(folder, {**self._read(folder), **images})
            except (InputError, ValueError) as error:  # ValueError: a name that is no Unicode
                logger.debug("%s: cannot be written (%s); images will be verified again", self.directory, error)

    def _file(self, folder: str) -> Path:
        digest = hashlib.sha256(os.fsencode(folder)).hexdigest()
        return self.directory / f"{digest[:32]}.json"

    def _read(self, folder: str) -> dict[str, _Entry]:
        try:
            content = msgspec.json.decode(self._file(folder).read_bytes(), type=_Folder)
        except (OSError, ValueError):
            return {}
        return content.images if content.pillow == PIL.__version__ else {}

    def _write(self, folder: str, images: dict[str, _Entry]) -> None:
        content = msgspec.json.encode(_Folder(PIL.__version__, images))
        # What a crash of the system takes can be made again; to wait for the disk would cost more.
        write_whole_file(self._file(folder), content, "set MLICKD_CACHE to another folder", parents=True, durable=False)


def _entry(record: dict) -> _Entry | None:
    """None where there is no such file."""
    try:
        status = os.stat(record["file_name"])
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns, record.get("height"), record.get("width")
