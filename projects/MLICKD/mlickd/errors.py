"""The error that a user can act on, and how a command line shows it."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Collection
from itertools import islice
from typing import NoReturn

__all__ = [
    "DEBUG",
    "InputError",
    "ProcessError",
    "debugging",
    "run_tool",
    "shorten_list",
    "silence_known_warnings",
    "users_error",
]

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


def debugging() -> bool:
    """Whether the user has asked to see where errors come from."""
    return bool(os.environ.get(_DEBUG_VARIABLE))


def one_line(error: InputError) -> str:
    """Its message."""
    # A data loader's worker passes its error on inside the text of its traceback.
    return _printable(" ".join(str(error).rsplit("InputError: ", maxsplit=1)[-1].split()))


def users_error(error: BaseException) -> str | None:
    """On one line what the user can mend, an `InputError` or what the system refuses to do with a file; else None."""
    if isinstance(error, InputError):
        return one_line(error)
    if not isinstance(error, OSError) or error.errno not in _REMEDIES:
        return None
    if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    name = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    return _printable(f"{name}{error.strerror}; {_REMEDIES[error.errno]}")


def run_tool(main: Callable[[], object], spell: Callable[[str], str] = str) -> None:
    """Run the `main` of a command-line tool.

    An `InputError`, or a file that the system does not let the tool read or write, ends the process with status 2 and
    one line `error: ...` on standard error, a `ProcessError` with status 1 and what the other process says, and Ctrl-C
    with status 130 and the line `stopped`; every other exception is a bug and keeps its traceback. The option
    ``--debug``, which is taken out of ``sys.argv`` wherever it stands, puts the traceback above that line.

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
        message = users_error(error)
        if message is None:
            raise
        _end(2, f"error: {spell(message)}")
    except ProcessError as error:
        # Below the first line there are paths of files.
        first, *others = _printable(str(error)).split("\n")
        _end(1, "\n".join([f"error: {spell(first)}", *others]))
    except KeyboardInterrupt:
        _end(128 + signal.SIGINT, "stopped")


def _end(status: int, message: str) -> NoReturn:
    if debugging():
        sys.stderr.write(_printable(traceback.format_exc()))
    sys.stderr.write(f"{message}\n")
    sys.exit(status)


def _printable(text: str) -> str:
    """A file name, as any text that is not ours, may hold what a terminal obeys, or what is no text."""
    letters = text.expandtabs()
    return "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in letters)


def shorten_list(names: Collection[object], most: int = 6) -> str:
    """The first names with commas between them, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, islice(names, most))) + more


def silence_known_warnings() -> None:
    """For a process that runs a command; a program that imports this project keeps what it has set."""
    # Pillow's, of more than half of the pixels that are read. What has more than all of them is an error here. Told by
    # its text, for its class would have to be imported, which takes time.
    warnings.filterwarnings("ignore", r"Image size \(\d+ pixels\) exceeds limit of \d+ pixels")
