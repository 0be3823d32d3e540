"""Parts of the repository that a command uses and that an installed package does not have."""

from __future__ import annotations

from pathlib import Path

from mlickd.errors import InputError

__all__ = ["REPOSITORY", "scripts_folder", "shipped_config"]

REPOSITORY = Path(__file__).parents[4]


def shipped_config(option: str, name: str) -> Path:
    """Return ``configs/<name>`` of the repository, the default of an option.

    Raises:
        InputError: the package is installed without the repository.
    """
    path = REPOSITORY / "configs" / name
    if not path.exists():
        raise InputError(f"{option} is missing: configs/{name} is in the repository; clone it and give its path")
    return path


def scripts_folder() -> Path:
    """Return the folder of the scripts that start commands: ``tools/`` of the repository, or else this package's."""
    tools = REPOSITORY / "tools"
    return tools if (tools / "train_net.py").is_file() else Path(__file__).parent
