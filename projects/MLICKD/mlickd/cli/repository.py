"""What a command takes from the repository where it runs in one: configurations, and the scripts of other commands."""

from __future__ import annotations

from pathlib import Path

from mlickd.errors import InputError

__all__ = ["scripts_folder", "shipped_config"]

_REPOSITORY = Path(__file__).parents[4]


def shipped_config(option: str, name: str) -> Path:
    """The file or folder `configs/<name>`, which an option stands for where it is not given.

    Raises:
        InputError: the package is installed without the repository.
    """
    path = _REPOSITORY / "configs" / name
    if not path.exists():
        raise InputError(
            f"{option} is missing: configs/{name} comes with the repository, which this installation is without; "
            f"clone it, and give {option} with a path in it"
        )
    return path


def scripts_folder() -> Path:
    """The folder of scripts by which a pipeline starts other commands: `tools/`, or where there is none, this one."""
    tools = _REPOSITORY / "tools"
    return tools if (tools / "train_net.py").is_file() else Path(__file__).parent
