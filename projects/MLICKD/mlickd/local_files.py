"""Files that a user names, which are read where they are."""

from __future__ import annotations

from collections.abc import Callable

from detectron2.utils.file_io import PathManager

from mlickd.errors import InputError

__all__ = ["is_file", "is_folder"]


def is_file(path: str, field: str) -> bool:
    """As Detectron2's ``PathManager.isfile``.

    Args:
        path: that a user has given.
        field: option or configuration key that it was given by, for the message.

    Raises:
        InputError: it is an address, of which nobody knows before the download whether it is there.
    """
    return _asked(PathManager.isfile, path, field)


def is_folder(path: str, field: str) -> bool:
    """As Detectron2's ``PathManager.isdir``; arguments and errors as for :func:`is_file`."""
    return _asked(PathManager.isdir, path, field)


def _asked(question: Callable[[str], bool], path: str, field: str) -> bool:
    try:
        return question(path)
    except NotImplementedError:
        raise InputError(f"{field} {path}: is an address; download the file, and give its path") from None
