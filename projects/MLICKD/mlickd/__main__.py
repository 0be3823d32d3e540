"""The program `mlickd`, which runs a command or lists all commands."""

import difflib
import importlib
import sys
from pathlib import Path

from mlickd import __version__
from mlickd.cli import COMMANDS, GROUPS
from mlickd.errors import InputError, run_tool


def main() -> None:
    """Run the command that the first argument names. The other arguments belong to the command."""
    run_tool(_find_and_run_command)


def _find_and_run_command() -> None:
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "help"):
        print(_command_list())
    elif name in ("-V", "--version"):
        print(f"mlickd {__version__}")
    elif name in COMMANDS:
        sys.argv = [f"mlickd {name}", *arguments]
        _run_command(COMMANDS[name])
    else:
        similar = difflib.get_close_matches(name, COMMANDS, 1)
        remedy = f"did you mean {similar[0]}?" if similar else "`mlickd` lists the commands"
        raise InputError(f"{name}: unknown command; {remedy}")


def run_script(file: str) -> None:
    """Run the command of a script in `tools/`."""
    names = {module: name for name, module in COMMANDS.items()}
    sys.argv[:1] = ["mlickd", names[Path(file).stem]]
    main()


def _run_command(module: str) -> None:
    if module not in ("predict", "install_detectron2", "env"):  # `predict` imports it for most models
        importlib.import_module("mlickd.registration")
    importlib.import_module(f"mlickd.cli.{module}").main()


def _command_list() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = ["usage: mlickd COMMAND ...", "", "`mlickd COMMAND --help` shows the options of a command, with examples."]
    for title, commands in GROUPS.items():
        lines += ["", f"{title}:"]
        lines += [f"  {name:<{width}}{summary}" for name, summary in commands.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
