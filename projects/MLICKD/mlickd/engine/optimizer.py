"""The optimizer, with a learning rate for each part of the model."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from torch import nn

__all__ = ["build_optimizer", "learning_rate_factor"]

LAST_LAYERS = ("class_stream", "detection_stream", "refinement_streams", "linear", "adapter")


def learning_rate_factor(cfg: CfgNode, name: str) -> float:
    """Return the factor on ``SOLVER.BASE_LR`` for the parameter ``name``.

    The backbone uses ``BACKBONE_LR_FACTOR``, the last layers ``LAST_LAYER_LR_FACTOR``, and a bias also
    ``BIAS_LR_FACTOR``: with 10 and 2, the streams of the paper's teacher learn at 10x, their biases at 20x.
    """
    parts = name.split(".")
    factor = 1.0
    if "backbone" in parts:
        factor *= cfg.SOLVER.BACKBONE_LR_FACTOR
    if any(layer in parts for layer in LAST_LAYERS):
        factor *= cfg.SOLVER.LAST_LAYER_LR_FACTOR
    # Detectron2's default, None, means the factor of the weights.
    if parts[-1] == "bias" and cfg.SOLVER.BIAS_LR_FACTOR is not None:
        factor *= cfg.SOLVER.BIAS_LR_FACTOR
    return factor


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build SGD or AdamW for the parameters that take gradients, with Detectron2's parameter groups and clipping."""
    bias_decay = {} if cfg.SOLVER.WEIGHT_DECAY_BIAS is None else {"weight_decay": cfg.SOLVER.WEIGHT_DECAY_BIAS}
    # Detectron2's own bias_lr_factor would replace the layer's factor instead of multiplying it.
    parameters = get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        lr_factor_func=lambda name: learning_rate_factor(cfg, name),
        overrides={"bias": bias_decay},
    )
    # A fused update is 3 to 7 times as fast on a CPU, because it reads the parameters once. But after an overflow in
    # float16, torch's fused SGD keeps momentum that it has never written; AdamW does not.
    overflows = cfg.SOLVER.AMP.ENABLED and cfg.SOLVER.AMP.DTYPE == "float16"
    arguments = {"lr": cfg.SOLVER.BASE_LR, "weight_decay": cfg.SOLVER.WEIGHT_DECAY}
    if cfg.SOLVER.OPTIMIZER == "SGD":
        arguments |= {"momentum": cfg.SOLVER.MOMENTUM, "nesterov": cfg.SOLVER.NESTEROV, "fused": not overflows}
        return maybe_add_gradient_clipping(cfg, torch.optim.SGD)(parameters, **arguments)
    return maybe_add_gradient_clipping(cfg, torch.optim.AdamW)(parameters, **arguments, fused=True)
