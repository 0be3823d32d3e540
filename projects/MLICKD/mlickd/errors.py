"""The error that a user can act on, and how a command line shows it."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable

from mlickd.known_warnings import silence_known_warnings

__all__ = ["DEBUG", "InputError", "ProcessError", "run_tool"]

# The option of all commands that shows where an error comes from, and the variable by which the commands that a command
# starts know of it.
DEBUG = "--debug"
_DEBUG_VARIABLE = "MLICKD_DEBUG"

# What the system refuses to do with a file, and what the user can do about it; every other OSError may be a bug.
_REMEDIES = {
    errno.EACCES: "give the right to, or name another place",
    errno.EPERM: "give the right to, or name another place",
    errno.EROFS: "name another place",
    errno.ENOSPC: "make room, or name another place",
    errno.EDQUOT: "make room, or name another place",
    errno.EFBIG: "make room, or name another place",
    errno.ENOTDIR: "name another place: a part of this path is a file",
    errno.EISDIR: "name a file: this is a folder",
    errno.ENAMETOOLONG: "give a shorter name",
}


class InputError(Exception):
    """Something given to the project is wrong: a path, a label, a box, a configuration key, a checkpoint.

    The message is one line that names the file, the field and the remedy.
    """


class ProcessError(Exception):
    """One of several processes has failed.

    The message is one line, or one line and the traceback of that process.
    """


def one_line(error: InputError) -> str:
    """Its message."""
    # A data loader's worker passes its error on inside the text of its traceback.
    message = " ".join(str(error).rsplit("InputError: ", maxsplit=1)[-1].split())
    # A file name may hold what a terminal obeys, or what is no text.
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in message)


def run_tool(main: Callable[[], object], spell: Callable[[str], str] = str) -> None:
    """Run the `main` of a command-line tool.

    An `InputError`, or a file that the system does not let the tool read or write, ends the process with status 2 and
    one line `error: ...` on standard error, a `ProcessError` with status 1 and what the other process says; every other
    exception is a bug and keeps its traceback. The option ``--debug``, which is taken out of ``sys.argv`` wherever it
    stands, puts the traceback above that line.

    Args:
        main: of the tool.
        spell: for the message of an error, which names commands, too.
    """
    if DEBUG in sys.argv[1:]:
        sys.argv[1:] = [argument for argument in sys.argv[1:] if argument != DEBUG]
        os.environ[_DEBUG_VARIABLE] = "1"
    silence_known_warnings()
    try:
        main()
    except (InputError, OSError) as error:
        message = _message(error)
        if message is None:
            raise
        if os.environ.get(_DEBUG_VARIABLE):
            traceback.print_exc()
        sys.stderr.write(f"error: {spell(message)}\n")
        sys.exit(2)
    except ProcessError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)


def _message(error: InputError | OSError) -> str | None:
    """The error on one line; None where it is no user's."""
    if isinstance(error, OSError):
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return None
        if error.errno not in _REMEDIES:
            return None
        name = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return f"{name}{error.strerror}; {_REMEDIES[error.errno]}"
    return one_line(error)
