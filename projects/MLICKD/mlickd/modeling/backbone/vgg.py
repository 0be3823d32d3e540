"""VGG (Simonyan & Zisserman 2015) as a Detectron2 backbone."""

from collections.abc import Sequence

import fvcore.nn.weight_init as weight_init
import torch
from detectron2.config import CfgNode
from detectron2.layers import Conv2d, FrozenBatchNorm2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch.nn import functional as F

from mlickd.errors import InputError

# Number of convolutions in each stage, by depth, and channels of each stage at width 1 (table 1 of the paper).
_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_CHANNELS = (64, 128, 256, 512, 512)
_STAGES = ("conv1", "conv2", "conv3", "conv4", "conv5")


class VGG(Backbone):
    """The convolutions of VGG11, 13, 16 or 19.

    A max pool separates two stages, so ``conv<k>`` has stride ``2 ** (k - 1)``. The pool after ``conv5`` is not part of
    the backbone: WSDDN pools regions from ``conv5`` directly. Modules have the names of the paper (``conv1_1`` to
    ``conv5_3``).
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
            out_features: names of the stages to return, ``conv1`` to ``conv5``.
            norm: normalization after each convolution, as in :func:`detectron2.layers.get_norm`.
            width: multiplier of the number of channels.
            freeze_at: number of stages, from the first, that keep their parameters and statistics.

        Raises:
            InputError: ``depth`` or a stage is unknown.
        """
        super().__init__()
        if depth not in _CONVOLUTIONS:
            raise InputError(f"MODEL.VGG.DEPTH {depth}: choose 11, 13, 16 or 19")
        unknown = sorted(set(out_features) - set(_STAGES))
        if unknown or not out_features:
            raise InputError(f"MODEL.VGG.OUT_FEATURES {unknown or 'is empty'}: choose from {', '.join(_STAGES)}")
        self._out_features = list(out_features)
        self._out_feature_channels = {}
        self._out_feature_strides = {}
        self.layers: dict[str, list[str]] = {}
        in_channels = 3
        for k in range(max(map(_STAGES.index, out_features)) + 1):
            stage, channels = _STAGES[k], max(1, round(_CHANNELS[k] * width))
            self.layers[stage] = [f"{stage}_{i + 1}" for i in range(_CONVOLUTIONS[depth][k])]
            for name in self.layers[stage]:
                convolution = Conv2d(
                    in_channels, channels, kernel_size=3, padding=1, norm=get_norm(norm, channels), activation=F.relu
                )
                weight_init.c2_msra_fill(convolution)
                if k < freeze_at:
                    convolution.requires_grad_(False)
                    convolution = FrozenBatchNorm2d.convert_frozen_batchnorm(convolution)
                self.add_module(name, convolution)
                in_channels = channels
            self._out_feature_channels[stage] = channels
            self._out_feature_strides[stage] = 2**k

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map normalized images (N, 3, H, W) to maps by stage name, (N, channels, H // stride, W // stride) each."""
        outputs = {}
        for stage, names in self.layers.items():
            if stage != "conv1":
                x = F.max_pool2d(x, kernel_size=2, stride=2)
            for name in names:
                x = getattr(self, name)(x)
            if stage in self._out_features:
                outputs[stage] = x
        return outputs


@BACKBONE_REGISTRY.register()
def build_vgg_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> VGG:
    """Build a :class:`VGG` from ``MODEL.VGG`` and ``MODEL.BACKBONE.FREEZE_AT``."""
    return VGG(**{key.lower(): value for key, value in cfg.MODEL.VGG.items()}, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT)
