"""The optimizer, with a learning rate for each part of the model."""

import torch
from detectron2.config import CfgNode
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from torch import nn

# Layers without pretrained weights, by module name.
NEW_LAYERS = ("class_stream", "detection_stream", "refinement_streams", "context_classifier", "linear", "adapters")


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build SGD or AdamW for the parameters that require gradients, with Detectron2's parameter groups and clipping.

    The learning rate of a parameter is ``SOLVER.BASE_LR``, times ``LAST_LAYER_LR_FACTOR`` in the layers without
    pretrained weights, times ``BIAS_LR_FACTOR`` for a bias. With factors of 10 and 2, as in the authors' release, the
    streams of the teacher learn at 10x, and their biases at 20x.
    """

    def learning_rate_factor(name: str) -> float:
        """Return the factor on ``SOLVER.BASE_LR`` for a parameter, given its name in the model."""
        parts = name.split(".")
        # A layer of the backbone may have one of these names, too.
        is_new = "backbone" not in parts and any(layer in parts for layer in NEW_LAYERS)
        factor = cfg.SOLVER.LAST_LAYER_LR_FACTOR if is_new else 1.0
        if parts[-1] == "bias":
            factor *= cfg.SOLVER.BIAS_LR_FACTOR
        return factor

    # Detectron2's bias_lr_factor would replace the factor of the layer instead of multiplying it.
    parameters = get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
        lr_factor_func=learning_rate_factor,
    )
    arguments = {"lr": cfg.SOLVER.BASE_LR, "weight_decay": cfg.SOLVER.WEIGHT_DECAY}
    # A fused update is 3 to 7 times as fast on a CPU, because it reads the parameters once.
    if cfg.SOLVER.OPTIMIZER == "ADAMW":
        return maybe_add_gradient_clipping(cfg, torch.optim.AdamW)(parameters, **arguments, fused=True)
    # After an overflow in float16, fused SGD reads an uninitialized momentum buffer; fused AdamW does not.
    may_overflow = cfg.SOLVER.AMP.ENABLED and cfg.SOLVER.AMP.DTYPE == "float16"
    arguments |= {"momentum": cfg.SOLVER.MOMENTUM, "nesterov": cfg.SOLVER.NESTEROV, "fused": not may_overflow}
    return maybe_add_gradient_clipping(cfg, torch.optim.SGD)(parameters, **arguments)
