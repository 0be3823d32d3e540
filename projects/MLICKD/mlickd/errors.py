"""Errors that a user can act on, and their messages on the command line."""

import errno
import os
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Collection
from contextlib import suppress
from itertools import islice
from typing import NoReturn, TextIO

# All commands have this option, which prints tracebacks. The environment variable passes it on to child processes.
DEBUG = "--debug"
_DEBUG_VARIABLE = "MLICKD_DEBUG"

_CLOSED_PIPE = 128 + signal.SIGPIPE  # as the shell reports a command whose reader has ended

# Errors of the operating system that a user can remedy. Any other OSError may be a bug.
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT}
_USER_ERRNOS = _FULL_DISK | {errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG, errno.ENOTDIR, errno.EISDIR}
_USER_ERRNOS |= {errno.ENAMETOOLONG, errno.EEXIST}


class InputError(Exception):
    """An error in user input: a path, a label, a box, a configuration key, a checkpoint.

    The message is one line that names the file, the field and the remedy.
    """


class ProcessError(Exception):
    """The failure of one of several processes.

    The message is one line, or one line and the traceback of that process.
    """


def one_line(error: Exception | str) -> str:
    """Return an error, or its message, as one line that is safe to print."""
    # A data loader re-raises the error of a worker with a traceback in front of the message.
    return _printable(" ".join(str(error).rsplit("InputError: ", maxsplit=1)[-1].split()))


def user_error_message(error: BaseException) -> str | None:
    """Return a one-line message if the user can fix the error, else None.

    The user can fix wrong input, a path or a disk, the memory of loader workers, and a missing Detectron2.
    """
    if isinstance(error, InputError) or isinstance(error, ModuleNotFoundError) and error.name == "detectron2":
        return one_line(error)
    if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):
        remedy = "Set DATALOADER.NUM_WORKERS 0, or give its workers more memory and /dev/shm (Docker: --shm-size 2g)"
        return _printable(f"{' '.join(str(error).split())} {remedy}")
    if not isinstance(error, OSError) or error.errno not in (_USER_ERRNOS if error.filename else _FULL_DISK):
        return None
    name = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    return _printable(f"{name}{error.strerror}; give another path, free disk space, or change the permissions")


def run_tool(main: Callable[[], object]) -> None:
    """Run the `main` function of a command-line tool and turn errors into messages and exit statuses.

    A user error (:func:`user_error_message`) prints one line ``error: ...`` to standard error and exits with status 2.
    A `ProcessError` also prints its message and exits with status 1. Ctrl-C prints ``stopped`` and exits with status
    130. If the reader of the output has ended (``| head``), the status is 141. Any other exception is a bug and keeps
    its traceback. The option ``--debug`` prints the traceback above these lines. It may be anywhere in ``sys.argv``;
    this function removes it. Characters that the output cannot encode are escaped.

    Args:
        main: main function of the tool.
    """
    if DEBUG in sys.argv[1:]:
        sys.argv[1:] = [argument for argument in sys.argv[1:] if argument != DEBUG]
        os.environ[_DEBUG_VARIABLE] = "1"
    warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from")  # characters in charts that the font lacks
    for stream in filter(None, (sys.stdout, sys.stderr)):
        escape_unencodable(stream)
    try:
        try:
            main()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, because Python reports an error of its last flush
    except (InputError, OSError, RuntimeError, ModuleNotFoundError) as error:
        if isinstance(error, BrokenPipeError) and any(map(_has_no_reader, (sys.stdout, sys.stderr))):
            _discard(sys.stdout, sys.stderr)
            sys.exit(_CLOSED_PIPE)
        message = user_error_message(error)
        if message is None:
            raise
        if isinstance(error, OSError) and error.errno in _FULL_DISK:
            _discard(sys.stdout)
        _exit(2, f"error: {message}")
    except ProcessError as error:
        _exit(1, f"error: {_printable(str(error))}")
    except KeyboardInterrupt:
        _exit(128 + signal.SIGINT, "stopped")


def escape_unencodable(stream: TextIO, encoding: str | None = None) -> None:
    """Make a stream escape characters that it cannot encode, after a change to ``encoding`` if it is given."""
    if hasattr(stream, "reconfigure"):  # a notebook's stream encodes all characters
        stream.reconfigure(encoding=encoding, errors="backslashreplace")


def _has_no_reader(stream: TextIO | None) -> bool:
    """Return whether the reader of an output has ended. A process may also have pipes to other processes."""
    with suppress(OSError, AttributeError):  # closed, or not a file
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    return False


def _discard(*streams: TextIO | None) -> None:
    """Discard what Python will flush into these streams when it ends."""
    for stream in filter(None, streams):
        with suppress(OSError):  # a notebook's stream has no descriptor
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _exit(status: int, message: str) -> NoReturn:
    try:
        if os.environ.get(_DEBUG_VARIABLE):
            sys.stderr.write(_printable(traceback.format_exc()))
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()
    except OSError as error:  # a closed pipe or a full disk
        _discard(sys.stdout, sys.stderr)
        status = _CLOSED_PIPE if isinstance(error, BrokenPipeError) else status
    sys.exit(status)


def _printable(text: str) -> str:
    """Escape unprintable characters, because a file name may contain terminal control codes or invalid Unicode."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text.expandtabs())


def shorten_list(names: Collection[object], limit: int = 6) -> str:
    """Return the first ``limit`` names, separated by commas, and the number of the others."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(str, islice(names, limit))) + more
