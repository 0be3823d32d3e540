"""Packages that only the export needs, imported where they are used."""

from __future__ import annotations

import importlib
from types import ModuleType

from mlickd.errors import InputError

__all__ = ["import_optional"]


def import_optional(name: str, purpose: str) -> ModuleType:
    """Import a package of the extra ``export``.

    Args:
        name: of the module.
        purpose: what needs it, for the message.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        raise InputError(
            f"{purpose} needs the package {error.name}; install it with `pip install 'mlickd[export]'`"
        ) from error
