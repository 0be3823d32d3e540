"""Shared parts of the command lines: parsers, values of options, and the command of this process."""

import argparse
import logging
import os
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from mlickd.environment import in_torchrun
from mlickd.errors import DEBUG, InputError, one_line


class CommandParser(argparse.ArgumentParser):
    """A parser with one-line errors."""

    def __init__(self, **settings: object):
        super().__init__(**settings)
        # Only for the help, because `run_tool` removes the option from sys.argv.
        self.add_argument(DEBUG, action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error")

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None) -> tuple:
        """Parse the arguments. A shell leaves the `~` in `--photos=~/holiday`, so this method expands it."""
        args = sys.argv[1:] if args is None else args
        return super().parse_known_args(["=".join(map(os.path.expanduser, arg.split("="))) for arg in args], namespace)

    def error(self, message: str) -> NoReturn:
        """Raise an InputError with the message of argparse."""
        raise InputError(f"{message}; `{self.prog} --help` lists the options")


def command_parser(description: str, epilog: str, log_level: str = "WARNING") -> argparse.ArgumentParser:
    """Return the parser of a command, and send log messages of ``log_level`` and above to standard error.

    ``epilog`` contains examples.
    """
    logging.basicConfig(level=log_level, format="%(message)s")
    logging.getLogger("torch.fx").setLevel(logging.ERROR)  # hides warnings about Detectron2's code
    with suppress(ImportError):  # `mlickd env` also runs if Pillow is damaged
        from mlickd.safe_images import note_pillow_warnings

        note_pillow_warnings()
    return CommandParser(
        prog=Path(sys.argv[0]).name,  # such as `mlickd train`
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def exit_if_unreadable(failures: Sequence[str], count: int) -> None:
    """Print the photos that could not be read, of ``count`` photos. If there are any, exit with status 1."""
    sys.stderr.writelines(f"skipped: {one_line(failure)}\n" for failure in failures)
    if failures:
        sys.stderr.write(f"{len(failures)} of {count} photos could not be read\n")
        sys.exit(1)


def typed_command() -> str:
    """Return the command line of this process, quoted for a shell."""
    program = sys.argv[0] if sys.argv[0].startswith("mlickd ") else shlex.join(["python", sys.argv[0]])
    return f"{program} {shlex.join(sys.argv[1:])}"


def read_seeds(text: str) -> list[int]:
    """Return the seeds of an option such as `1,2,3`."""
    if not all(part.isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text} is not a list of integers of at least 0, such as 1,2,3")
    return [int(part) for part in text.split(",")]


def positive_int(text: str) -> int:
    """Return the value of an option, an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not an integer of at least 1")
    return int(text)


def add_shard_argument(parser: argparse.ArgumentParser, description: str) -> None:
    """Add ``--shard I/N``, the part of the work for this process: (I, N) with I from 1 to N.

    By default, torchrun's RANK and WORLD_SIZE select the part. Without torchrun, this process does all: (1, 1).
    """
    default = f"{int(os.environ['RANK']) + 1}/{os.environ['WORLD_SIZE']}" if in_torchrun() else "1/1"
    text = f"{description} (default: all; with torchrun, the part of the rank)"
    parser.add_argument("--shard", type=_shard, default=default, metavar="I/N", help=text)


def _shard(text: str) -> tuple[int, int]:
    numbers = re.fullmatch(r"(\d+)/(\d+)", text, re.ASCII)
    if not numbers or not 1 <= int(numbers[1]) <= int(numbers[2]):
        raise argparse.ArgumentTypeError(f"{text} is not I/N with I from 1 to N, such as 1/3")
    return int(numbers[1]), int(numbers[2])
