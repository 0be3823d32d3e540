"""The command `mlickd`: lists the commands, or runs one."""

from __future__ import annotations

import difflib
import importlib
import sys

from mlickd import __version__
from mlickd.cli import COMMANDS, GROUPS
from mlickd.cli.command_line import as_called
from mlickd.errors import InputError, run_tool

__all__ = ["main"]


def main() -> None:
    """Of the arguments of the process, the first names a command, and the others are the command's."""
    run_tool(_run, as_called)


def _run() -> None:
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "help"):
        print(_listing())
    elif name == "--version":
        print(f"mlickd {__version__}")
    elif name in COMMANDS:
        sys.argv = [f"mlickd {name}", *arguments]
        _load(COMMANDS[name].module).main()
    else:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        meant = f"did you mean {near[0]}?" if near else "give one of those that `mlickd` alone lists"
        raise InputError(f"{name} is no command of mlickd; {meant}")


def _load(module: str):
    try:
        importlib.import_module("mlickd.registration")
        return importlib.import_module(f"mlickd.cli.{module}")
    except ModuleNotFoundError as error:
        if error.name != "detectron2":
            raise
        raise InputError(str(error)) from error


def _listing() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = ["usage: mlickd COMMAND ...", "", "`mlickd COMMAND --help` shows the options of a command, with examples."]
    for title, commands in GROUPS.items():
        lines += ["", f"{title}:"]
        lines += [f"  {name:<{width}}{command.summary}" for name, command in commands.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
