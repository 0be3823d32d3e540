"""MLICKD: multi-label image classification by knowledge distillation from weakly supervised detection.

Importing this package registers its models, backbones and heads in Detectron2's registries and does nothing else.
"""

import importlib
import sys
from pathlib import Path

__version__ = "0.1.0"
__all__ = ["add_mlickd_config", "default_config", "distillation", "load_model", "modeling"]

# Where names come from that are imported when they are asked for.
_HOMES = {"add_mlickd_config": "config", "default_config": "config", "load_model": "prediction"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def _is_command() -> bool:
    """Whether this process is the command `mlickd`, or `python -m mlickd`.

    It registers when it knows what to run, for importing Detectron2 takes seconds and the list of commands should not.
    """
    if sys.argv[:1] == ["-m"]:  # stands in place of the path while Python looks for the module, whose name is only in:
        return sys.orig_argv[-len(sys.argv)] == "mlickd"
    return Path(*sys.argv[:1]).stem == "mlickd"


if not _is_command():
    importlib.import_module(".registration", __name__)
