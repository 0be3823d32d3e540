"""Importing this registers the project's models, backbones, heads and distillers with Detectron2."""

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

from . import distillation, modeling  # noqa: F401
