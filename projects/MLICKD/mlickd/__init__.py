"""MLICKD: multi-label image classification by knowledge distillation from weakly supervised detection.

Importing this package registers its models, backbones and heads in Detectron2's registries and does nothing else.
"""

import warnings

try:
    with warnings.catch_warnings():
        # What torch has to say of Detectron2's code: nobody who reads it here can change that.
        warnings.filterwarnings("ignore", "`torch.jit.script` is", FutureWarning)
        import detectron2.modeling  # noqa: F401
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
