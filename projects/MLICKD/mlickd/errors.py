"""The error that a user can act on, and how a command line shows it."""

from __future__ import annotations

import sys
from collections.abc import Callable


class InputError(Exception):
    """Something given to the project is wrong: a path, a label, a box, a configuration key, a checkpoint.

    The message is one line that names the file, the field and the remedy.
    """


class ProcessError(Exception):
    """One of several processes has failed.

    The message is one line, or one line and the traceback of that process.
    """


def one_line(error: InputError) -> str:
    """Its message. A data loader's worker passes its error on inside the text of its traceback."""
    return " ".join(str(error).rsplit("InputError: ", maxsplit=1)[-1].split())


def run_tool(main: Callable[[], object], spell: Callable[[str], str] = str) -> None:
    """Run the `main` of a command-line tool.

    Args:
        main: of the tool.
        spell: for the message of an error, which names commands, too.

    An `InputError` ends the process with status 2 and one line `error: ...` on standard error, a `ProcessError` with
    status 1 and what the other process says; every other exception is a bug and keeps its traceback.
    """
    try:
        main()
    except InputError as error:
        sys.stderr.write(f"error: {spell(one_line(error))}\n")
        sys.exit(2)
    except ProcessError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
