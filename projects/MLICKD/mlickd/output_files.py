"""Files that a command writes at its end."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from mlickd.errors import InputError
from mlickd.whole_files import unfinished_path

__all__ = ["check_writable"]


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
