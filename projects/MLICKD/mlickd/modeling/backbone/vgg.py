"""VGG (Simonyan & Zisserman 2015) as a Detectron2 backbone."""

from __future__ import annotations

from collections.abc import Sequence

import fvcore.nn.weight_init as weight_init
import torch
from detectron2.config import CfgNode
from detectron2.layers import Conv2d, FrozenBatchNorm2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch.nn import functional as F

from mlickd.errors import InputError

__all__ = ["VGG", "build_vgg_backbone"]

# Convolutions of each stage, and the channels of a stage at width 1 (table 1 of the paper).
_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_CHANNELS = (64, 128, 256, 512, 512)


class VGG(Backbone):
    """The convolutions of VGG11, 13, 16 or 19.

    Stages are named ``conv1`` to ``conv5``, with a max pool between two stages, so ``conv<k>`` has stride
    ``2 ** (k - 1)``. The pool after ``conv5`` is not part of the backbone: WSDDN pools regions from ``conv5`` itself.
    Modules have the names of the paper (``conv1_1`` ... ``conv5_3``).
    """

    def __init__(
        self,
        depth: int = 16,
        out_features: Sequence[str] = ("conv5",),
        *,
        norm: str = "",
        width: float = 1.0,
        freeze_at: int = 0,
    ):
        """
        Args:
            depth: 11, 13, 16 or 19.
            out_features: names of the stages to return.
            norm: normalization after each convolution, as in :func:`detectron2.layers.get_norm`.
            width: factor on the number of channels.
            freeze_at: the first ``freeze_at`` stages get no gradients.

        Raises:
            InputError: there is no such depth or stage.
        """
        super().__init__()
        if depth not in _CONVOLUTIONS:
            raise InputError(f"MODEL.VGG.DEPTH {depth}: choose 11, 13, 16 or 19")
        known = [f"conv{k}" for k in range(1, 6)]
        unknown = sorted(set(out_features) - set(known))
        if unknown or not out_features:
            raise InputError(f"MODEL.VGG.OUT_FEATURES {unknown or 'is empty'}: choose from {', '.join(known)}")
        self._out_features = list(out_features)
        self._out_feature_channels = {}
        self._out_feature_strides = {}
        self.stages: list[tuple[str, list[str]]] = []
        in_channels = 3
        last_stage = max(map(known.index, out_features))
        for k in range(last_stage + 1):
            channels = max(1, round(_CHANNELS[k] * width))
            names = [f"{known[k]}_{i + 1}" for i in range(_CONVOLUTIONS[depth][k])]
            for name in names:
                convolution = Conv2d(
                    in_channels,
                    channels,
                    kernel_size=3,
                    padding=1,
                    norm=get_norm(norm, channels),
                    activation=F.relu,
                )
                weight_init.c2_msra_fill(convolution)
                self.add_module(name, convolution)
                in_channels = channels
            self.stages.append((known[k], names))
            self._out_feature_channels[known[k]] = channels
            self._out_feature_strides[known[k]] = 2**k
        self.freeze(freeze_at)

    def freeze(self, freeze_at: int) -> None:
        """Stop the gradients of the first ``freeze_at`` stages and keep the statistics of their batch normalization."""
        for _, names in self.stages[:freeze_at]:
            for name in names:
                for parameter in getattr(self, name).parameters():
                    parameter.requires_grad = False
                setattr(self, name, FrozenBatchNorm2d.convert_frozen_batchnorm(getattr(self, name)))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """
        Args:
            x: (N, 3, H, W) normalized images.

        Returns:
            Feature maps by stage name, each (N, channels, H // stride, W // stride).
        """
        outputs = {}
        for k, (stage, names) in enumerate(self.stages):
            if k > 0:
                x = F.max_pool2d(x, kernel_size=2, stride=2)
            for name in names:
                x = getattr(self, name)(x)
            if stage in self._out_features:
                outputs[stage] = x
        return outputs


@BACKBONE_REGISTRY.register()
def build_vgg_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> VGG:
    """Build a :class:`VGG` from ``MODEL.VGG``, with ``MODEL.BACKBONE.FREEZE_AT`` stages frozen."""
    backbone = VGG(
        depth=cfg.MODEL.VGG.DEPTH,
        out_features=cfg.MODEL.VGG.OUT_FEATURES,
        norm=cfg.MODEL.VGG.NORM,
        width=cfg.MODEL.VGG.WIDTH,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )
    if cfg.MODEL.BACKBONE.FREEZE_NORM:
        backbone = FrozenBatchNorm2d.convert_frozen_batchnorm(backbone)
    return backbone
