"""What all command lines share: their help, how they were called, and values of options."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mlickd.errors import DEBUG, InputError

from . import COMMANDS

__all__ = ["CommandParser", "as_called", "command_parser", "parse_shard", "program", "read_seeds", "typed_command"]

# What `mlickd` puts in place of the script's path.
_PREFIX = "mlickd "
_SCRIPT = re.compile(r"(?:python )?tools/(\w+)\.py")


class CommandParser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong, as everything else does, and not below all options.

    The commands of a command are parsed by the same class.
    """

    def __init__(self, **settings: object):
        super().__init__(**settings)
        # `run_tool` takes it out of the command line, wherever it stands; here for the help.
        self.add_argument(DEBUG, action="store_true", help="show where in the code an error was found")

    def error(self, message: str) -> NoReturn:
        """
        Raises:
            InputError: with the message of argparse, and where to look.
        """
        raise InputError(f"{message}; see `{self.prog} --help` for what can be given")


def command_parser(
    description: str, epilog: str, parents: Sequence[argparse.ArgumentParser] = ()
) -> argparse.ArgumentParser:
    """A parser whose help keeps the lines of its epilog, with examples as the user has called the command.

    Args:
        description: of the command.
        epilog: examples.
        parents: parsers whose options are also this one's.
    """
    return CommandParser(
        prog=program(),
        description=description,
        epilog=as_called(epilog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=parents,
        conflict_handler="resolve",  # each has --help
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


def parse_shard(text: str | None) -> tuple[int, int]:
    """Return the part of the work that this process does, as (number from 1, count).

    Args:
        text: ``I/N``, the value of ``--shard``. If it is None, torchrun's RANK and WORLD_SIZE give the part, and
            without torchrun this process does everything: (1, 1).

    Raises:
        InputError: the text is not ``I/N``.
    """
    if text is None and {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        text = f"{int(os.environ['RANK']) + 1}/{os.environ['WORLD_SIZE']}"
    numbers = re.fullmatch(r"(\d+)/(\d+)", "1/1" if text is None else text, re.ASCII)
    if not numbers or not 1 <= int(numbers[1]) <= int(numbers[2]):
        raise InputError(f"--shard: {text} is not I/N with I from 1 to N; give for instance 1/3")
    return int(numbers[1]), int(numbers[2])
