"""MLICKD: multi-label image classification by knowledge distillation from weakly supervised detection.

If Detectron2 is already imported, importing this package registers its models, backbones and heads with it. Otherwise,
:func:`add_mlickd_config` and the sub-packages that need Detectron2 import it and register them.
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
