"""What all command lines share: their help, how they were called, and values of options."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from pathlib import Path

from mlickd.errors import InputError

from . import COMMANDS

__all__ = ["as_called", "command_parser", "program", "read_seeds", "typed_command"]

# What `mlickd` puts in place of the script's path.
_PREFIX = "mlickd "
_SCRIPT = re.compile(r"(?:python )?tools/(\w+)\.py")


def command_parser(description: str, epilog: str) -> argparse.ArgumentParser:
    """A parser whose help keeps the lines of its epilog, with examples as the user has called the command."""
    return argparse.ArgumentParser(
        prog=program(),
        description=description,
        epilog=as_called(epilog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def program() -> str:
    """What was called: `train_net.py`, or `mlickd train`."""
    return Path(sys.argv[0]).name


def as_called(text: str) -> str:
    """A text with `python tools/NAME.py` in it, for who has called `mlickd NAME`; else as it is."""
    if not sys.argv[0].startswith(_PREFIX):
        return text
    names = {command.module: name for name, command in COMMANDS.items()}
    return _SCRIPT.sub(lambda script: _PREFIX + names[script[1]] if script[1] in names else script[0], text)


def typed_command() -> str:
    """The command line of this process, for a shell."""
    started = program() if sys.argv[0].startswith(_PREFIX) else shlex.join(["python", sys.argv[0]])
    return " ".join([started, shlex.join(sys.argv[1:])])


def read_seeds(text: str) -> list[int]:
    """`1,2,3` as a list.

    Raises:
        InputError: these are no whole numbers.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--seeds {text}: give whole numbers with commas between them, as in 1,2,3") from None
