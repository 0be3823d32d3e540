"""A model as its configuration describes it, with names and shapes of its parameters and no numbers."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

__all__ = ["model_blueprint"]


def model_blueprint(cfg: CfgNode) -> nn.Module:
    """The model of a configuration on PyTorch's ``meta`` device: made in no time and without memory, to look at.

    Args:
        cfg: completed.

    Raises:
        InputError: the model cannot be built.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "meta"
    cfg.MODEL.TIMM.PRETRAINED = False  # nothing is fetched to be looked at
    try:
        with torch.device("meta"):
            return build_model(cfg)
    except (NotImplementedError, RuntimeError):
        # A backbone from outside this project may compute while it is built, which needs numbers.
        cfg.MODEL.DEVICE = "cpu"
        with torch.random.fork_rng(devices=[]):
            return build_model(cfg)
