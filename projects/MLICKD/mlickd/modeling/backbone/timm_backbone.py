"""Any timm model that can return its intermediate features, as a Detectron2 backbone.

timm is imported where it is used: that takes a third of a second, and many networks do without it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch.nn.modules.batchnorm import _BatchNorm

from mlickd.errors import InputError

__all__ = ["TimmBackbone", "build_timm_backbone", "timm_pixel_statistics"]

FINAL = "final"


class TimmBackbone(Backbone):
    """Feature maps of a timm model, called by their stage or their stride.

    ``stage<k>`` is the k-th map that timm lists for the model, from 1; ``stride<N>`` is the deepest one of stride N.
    ``final`` is the map that the model's own classifier pools; for many
    networks it is a 1x1 convolution deeper than the last stage. The names of parameters are timm's, under ``model.``,
    so that timm's checkpoints fit.
    """

    def __init__(
        self,
        name: str,
        out_features: Sequence[str] = (FINAL,),
        *,
        output_stride: int = 32,
        pretrained: bool = False,
        freeze_norm: bool = False,
    ):
        """
        Args:
            name: the model's name in timm.
            out_features: feature maps to return.
            output_stride: stride of the deepest map; below 32, timm dilates the last stages of the models that can.
            pretrained: start from the weights that timm downloads.
            freeze_norm: batch normalization keeps its statistics and its affine parameters.

        Raises:
            InputError: timm has no such model, the model has no such feature map, or its weights cannot be fetched.
        """
        import timm

        super().__init__()
        dilation = {} if output_stride == 32 else {"output_stride": output_stride}
        try:
            self.model = timm.create_model(name, pretrained=pretrained, num_classes=0, global_pool="", **dilation)
        except (RuntimeError, TypeError, ValueError, AssertionError, NotImplementedError) as error:
            raise InputError(
                f"MODEL.TIMM.NAME {name!r} cannot be built with output stride {output_stride} ({error!r}); give "
                "another "
                "MODEL.TIMM.OUTPUT_STRIDE or another model"
            ) from error
        except OSError as error:
            raise InputError(
                f"MODEL.TIMM.PRETRAINED: the weights of {name} cannot be fetched ({str(error).splitlines()[0]}); fetch "
                "them where there is a network, and give the file as MODEL.BACKBONE.WEIGHTS"
            ) from error
        if not hasattr(self.model, "forward_intermediates"):
            raise InputError(f"MODEL.TIMM.NAME {name!r} cannot return feature maps; choose another model of timm")
        listed = list(enumerate(self.model.feature_info))
        maps = {f"stage{i + 1}": (i, info) for i, info in listed}
        # The deepest map of a stride comes last and wins.
        maps |= {f"stride{info['reduction']}": (i, info) for i, info in listed}
        unknown = sorted(set(out_features) - set(maps) - {FINAL})
        if unknown or not out_features:
            raise InputError(
                f"MODEL.TIMM.OUT_FEATURES {unknown or 'is empty'}: with output stride {output_stride} {name} has "
                f"others; choose from {', '.join([*maps, FINAL])}"
            )
        self._out_features = list(out_features)
        self._indices = {feature: maps[feature][0] for feature in out_features if feature != FINAL}
        self._shapes = {
            feature: ShapeSpec(channels=info["num_chs"], stride=info["reduction"])
            for feature, (_, info) in maps.items()
            if feature in out_features
        }
        if FINAL in out_features:
            if hasattr(self.model, "num_prefix_tokens"):  # a transformer whose last output is a list of tokens
                raise InputError(f"MODEL.TIMM.OUT_FEATURES {FINAL}: {name} ends in tokens; choose {', '.join(maps)}")
            stride = self.model.feature_info[-1]["reduction"]
            self._shapes[FINAL] = ShapeSpec(channels=self.model.num_features, stride=stride)
        else:
            self.model.prune_intermediate_layers(sorted(self._indices.values()), prune_head=True)
        # Frozen in place: timm's frozen layers multiply and add in two passes, a third of the time at inference.
        self._frozen_norms = [m for m in self.model.modules() if isinstance(m, _BatchNorm)] if freeze_norm else []
        for norm in self._frozen_norms:
            norm.requires_grad_(False)
        # Depthwise convolutions take 1.2 to 1.3x less time so on a processor; VGG's take more.
        self.model.to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> TimmBackbone:
        """As in PyTorch, but frozen normalization stays in evaluation mode."""
        super().train(mode)
        for norm in self._frozen_norms:
            norm.eval()
        return self

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """
        Args:
            x: (N, 3, H, W) normalized images.

        Returns:
            Feature maps by name, each (N, channels, height, width).
        """
        x = x.contiguous(memory_format=torch.channels_last)
        outputs = {}
        if not self._indices:
            outputs[FINAL] = self._channels_first(self.model.forward_features(x))
        else:
            indices = sorted(set(self._indices.values()))
            result = self.model.forward_intermediates(
                x, indices=indices, output_fmt="NCHW", intermediates_only=FINAL not in self._out_features
            )
            if FINAL in self._out_features:
                final, result = result
                outputs[FINAL] = self._channels_first(final)
            by_index = dict(zip(indices, result, strict=True))
            outputs |= {feature: by_index[index] for feature, index in self._indices.items()}
        return {feature: outputs[feature] for feature in self._out_features}

    def _channels_first(self, final: torch.Tensor) -> torch.Tensor:
        # Intermediate maps come in the order asked for, the final one in the model's own.
        return final.permute(0, 3, 1, 2) if getattr(self.model, "output_fmt", "NCHW") == "NHWC" else final

    @property
    def size_divisibility(self) -> int:
        """Any input size works."""
        return 0

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each feature map."""
        return {feature: self._shapes[feature] for feature in self._out_features}


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """A :class:`TimmBackbone` from ``MODEL.TIMM``."""
    if cfg.MODEL.BACKBONE.FREEZE_AT > 0:
        raise InputError("MODEL.BACKBONE.FREEZE_AT is for VGG and ResNet; set MODEL.BACKBONE.FROZEN for a timm model")
    return TimmBackbone(
        cfg.MODEL.TIMM.NAME,
        cfg.MODEL.TIMM.OUT_FEATURES,
        output_stride=cfg.MODEL.TIMM.OUTPUT_STRIDE,
        pretrained=cfg.MODEL.TIMM.PRETRAINED,
        freeze_norm=cfg.MODEL.BACKBONE.FREEZE_NORM,
    )


def timm_pixel_statistics(name: str) -> tuple[list[float], list[float]]:
    """Mean and standard deviation that the timm model ``name`` expects, RGB, in units of 0 to 255.

    Raises:
        InputError: timm has no such model.
    """
    import timm

    if not timm.is_model(name):
        raise InputError(f"MODEL.TIMM.NAME {name!r} is no model of timm; give one that `timm.list_models()` lists")
    settings = timm.get_pretrained_cfg(name)
    mean = settings.mean if settings else timm.data.IMAGENET_DEFAULT_MEAN
    std = settings.std if settings else timm.data.IMAGENET_DEFAULT_STD
    return [255 * value for value in mean], [255 * value for value in std]
