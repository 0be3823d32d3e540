"""Registration of models, backbones, heads and distillers in Detectron2's registries, on import."""

import warnings

try:
    with warnings.catch_warnings():
        # Only Detectron2 can remove the cause of this warning.
        warnings.filterwarnings("ignore", "`torch.jit.script` is", FutureWarning)
        import detectron2.modeling  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "detectron2":
        raise
    raise ModuleNotFoundError("MLICKD needs Detectron2: run `mlickd install-detectron2`", name="detectron2") from error

from . import distillation, modeling  # noqa: F401
