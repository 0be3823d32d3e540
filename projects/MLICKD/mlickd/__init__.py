"""MLICKD: multi-label image classification by knowledge distillation from weakly supervised detection.

Importing this package registers its models, backbones and heads in Detectron2's registries and does nothing else. If
Detectron2 is not imported yet, :func:`add_mlickd_config` and the sub-packages that need it import it and register them.
"""

import importlib
import sys

__version__ = "0.1.0"
__all__ = ["add_mlickd_config", "default_config", "distillation", "load_model", "modeling"]

# Modules of the functions that are imported on first use.
_MODULES = {"add_mlickd_config": "config", "default_config": "config", "load_model": "prediction"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{_MODULES.get(name, name)}", __name__)
    return getattr(module, name, module)


if sys.modules.get("detectron2"):
    importlib.import_module(".registration", __name__)
