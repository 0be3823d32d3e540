"""Files that a command writes at its end."""

from __future__ import annotations

import os
from pathlib import Path

from mlickd.errors import InputError

__all__ = ["check_writable"]


def check_writable(path: str | os.PathLike[str]) -> None:
    """See that a file can be written, before there is one.

    Raises:
        InputError: it cannot.
    """
    target = Path(path).expanduser()
    new = not target.exists()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "a", encoding="utf-8"):
            pass
        if new:
            target.unlink()
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); give another path") from error
