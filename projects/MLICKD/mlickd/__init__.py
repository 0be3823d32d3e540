"""MLICKD: multi-label image classification by knowledge distillation from weakly supervised detection.

Importing this package registers its models, backbones and heads in Detectron2's registries and does nothing else.
"""

import importlib
import sys
from pathlib import Path

__version__ = "0.1.0"
__all__ = ["add_mlickd_config", "default_config", "distillation", "load_model", "modeling"]

# Names that are imported on first use, with their modules.
_MODULES = {"add_mlickd_config": "config", "default_config": "config", "load_model": "prediction"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)


def _is_command() -> bool:
    """Return whether this process is the command `mlickd`, or `python -m mlickd`.

    Importing Detectron2 takes seconds, so `mlickd` does not register models until it runs a command.
    """
    if sys.argv[:1] == ["-m"]:  # Python has not found the module yet; sys.orig_argv has its name
        return sys.orig_argv[-len(sys.argv)] == "mlickd"
    return Path(*sys.argv[:1]).stem == "mlickd"


if not _is_command():
    importlib.import_module(".registration", __name__)
