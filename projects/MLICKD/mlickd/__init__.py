"""MLICKD: multi-label image classification by knowledge distillation from weakly supervised detection.

Importing this package registers its models, backbones and heads in Detectron2's registries and does nothing else.
"""

try:
    import detectron2  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "detectron2":
        raise
    raise ModuleNotFoundError(
        "MLICKD needs Detectron2: run `python tools/install_detectron2.py` with this Python", name="detectron2"
    ) from error

from . import distillation, modeling
from .config import add_mlickd_config, default_config

__version__ = "0.1.0"
__all__ = ["add_mlickd_config", "default_config", "distillation", "modeling"]
