"""Any timm model that can return its intermediate features, as a Detectron2 backbone.

timm is imported in the functions that use it, because the import takes a third of a second.
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
    """Feature maps of a timm model, named by their stage or their stride.

    ``stage<k>`` is the k-th map that timm lists for the model, from 1; ``stride<N>`` is the deepest map of stride N;
    ``final`` is the map that the model's own classifier pools, in many networks a 1x1 convolution after the last stage.
    Parameters have timm's names, below ``model.``, so timm's checkpoints fit.
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
            out_features: names of the feature maps to return.
            output_stride: stride of the deepest map; below 32, timm dilates the last stages if the model supports that.
            pretrained: start from the weights that timm downloads.
            freeze_norm: batch normalization keeps its statistics and its affine parameters.

        Raises:
            InputError: timm has no such model, the model has no such feature map, or its weights cannot be downloaded.
        """
        import timm

        super().__init__()
        dilation = {} if output_stride == 32 else {"output_stride": output_stride}
        try:
            self.model = timm.create_model(name, pretrained=pretrained, num_classes=0, global_pool="", **dilation)
        except (RuntimeError, TypeError, ValueError, AssertionError, NotImplementedError) as error:
            raise InputError(
                f"MODEL.TIMM.NAME {name!r} cannot be built with MODEL.TIMM.OUTPUT_STRIDE {output_stride} ({error!r}); "
                "give another of them"
            ) from error
        except OSError as error:
            raise InputError(
                f"MODEL.TIMM.PRETRAINED: the weights of {name} cannot be downloaded ({str(error).splitlines()[0]}); "
                "download them elsewhere, and give the file as MODEL.BACKBONE.WEIGHTS"
            ) from error
        listed = list(enumerate(self.model.feature_info if hasattr(self.model, "forward_intermediates") else ()))
        maps = {f"stage{i + 1}": (i, info) for i, info in listed}
        # The last map of a stride is the deepest, and replaces the others.
        maps |= {f"stride{info['reduction']}": (i, info) for i, info in listed}
        # The last output of a transformer is a list of tokens, not a map.
        choices = [*maps] if hasattr(self.model, "num_prefix_tokens") else [*maps, FINAL]
        unknown = sorted(set(out_features) - set(choices if listed else ()))
        if unknown or not out_features:
            raise InputError(
                f"MODEL.TIMM.OUT_FEATURES {unknown or 'is empty'}: {name} with output stride {output_stride} has "
                f"{', '.join(choices) if listed else 'no feature maps'}; choose from them, or another MODEL.TIMM.NAME"
            )
        self._out_features = list(out_features)
        self._indices = {feature: maps[feature][0] for feature in out_features if feature != FINAL}
        self._out_feature_channels = {feature: info["num_chs"] for feature, (_, info) in maps.items()}
        self._out_feature_strides = {feature: info["reduction"] for feature, (_, info) in maps.items()}
        if FINAL in out_features:
            self._out_feature_channels[FINAL] = self.model.num_features
            self._out_feature_strides[FINAL] = self.model.feature_info[-1]["reduction"]
        else:
            self.model.prune_intermediate_layers(sorted(self._indices.values()), prune_head=True)
        # timm's own frozen layers multiply and add in two passes, which takes a third of the time at inference.
        self._frozen_norms = [m for m in self.model.modules() if isinstance(m, _BatchNorm)] if freeze_norm else []
        for norm in self._frozen_norms:
            norm.requires_grad_(False)
        # On a CPU, depthwise convolutions are 1.2 to 1.3 times faster in this layout. (Those of VGG are slower.)
        self.model.to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> TimmBackbone:
        """Set the mode as in PyTorch, but keep frozen normalization in evaluation mode."""
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
        # Intermediate maps have the requested layout, the final one has that of the model.
        return final.permute(0, 3, 1, 2) if getattr(self.model, "output_fmt", "NCHW") == "NHWC" else final


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """Build a :class:`TimmBackbone` from ``MODEL.TIMM``."""
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
    """Return the mean and standard deviation that a timm model expects, RGB, in units of 0 to 255.

    Raises:
        InputError: timm has no such model.
    """
    import timm

    if not timm.is_model(name):
        raise InputError(f"MODEL.TIMM.NAME {name!r} is not a model of timm; give one that `timm.list_models()` lists")
    settings = timm.get_pretrained_cfg(name)
    mean = settings.mean if settings else timm.data.IMAGENET_DEFAULT_MEAN
    std = settings.std if settings else timm.data.IMAGENET_DEFAULT_STD
    return [255 * value for value in mean], [255 * value for value in std]
