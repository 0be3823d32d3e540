"""Any timm model that can return its intermediate features, as a Detectron2 backbone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import nn

from mlickd.errors import InputError

FINAL = "final"


class TimmBackbone(Backbone):
    """Feature maps of a timm model, named by their stage or their stride.

    ``stage<k>`` is the k-th map that timm lists (k starts at 1). ``stride<N>`` is the deepest map of stride N.
    ``final`` is the map that the model's classifier pools. In many networks, a 1x1 convolution after the last stage
    computes it. Parameters have timm's names with the prefix ``model.``.
    """

    def __init__(self, name: str, out_features: Sequence[str] = (FINAL,), *, pretrained: bool = False):
        """
        Args:
            name: name of the model in timm.
            out_features: names of the feature maps to return.
            pretrained: whether timm downloads the initial weights.

        Raises:
            InputError: timm does not have the model, the model does not have a requested feature map, or its weights
                cannot be downloaded.
        """
        import timm  # here, because the import takes a third of a second

        super().__init__()
        try:
            self.model = timm.create_model(name, pretrained=pretrained, num_classes=0)
        except Exception as error:  # damaged weights can raise any error
            if pretrained and timm.is_model(name):
                raise InputError(
                    f"MODEL.TIMM.PRETRAINED: the weights of {name} cannot be downloaded, or the downloaded file is "
                    f"damaged ({str(error).partition(chr(10))[0]}); delete the folder of the model in the cache of "
                    "Hugging Face, or set MODEL.BACKBONE.WEIGHTS to a file of weights"
                ) from error
            raise InputError(
                f"MODEL.TIMM.NAME {name!r} cannot be built ({error!r}); choose a name that `timm.list_models()` lists"
            ) from error
        infos = list(self.model.feature_info) if hasattr(self.model, "forward_intermediates") else []
        # By name: the index, channels and stride of a map.
        maps = {f"stage{i + 1}": (i, info["num_chs"], info["reduction"]) for i, info in enumerate(infos)}
        # The last map of a stride is the deepest. It replaces the others.
        maps |= {f"stride{stride}": (i, channels, stride) for i, channels, stride in list(maps.values())}
        # The final output of a transformer is a list of tokens, not a map.
        if infos and not hasattr(self.model, "num_prefix_tokens"):
            maps[FINAL] = (len(infos), self.model.num_features, infos[-1]["reduction"])
        unknown = sorted(set(out_features) - maps.keys())
        if unknown or not out_features:
            raise InputError(
                f"MODEL.TIMM.OUT_FEATURES {unknown or 'is empty'}: {name} has {', '.join(maps) or 'no feature maps'}; "
                "choose from them, or another MODEL.TIMM.NAME"
            )
        self._out_features = list(out_features)
        self._indices = {feature: maps[feature][0] for feature in out_features if feature != FINAL}
        self._out_feature_channels = {feature: channels for feature, (_, channels, _) in maps.items()}
        self._out_feature_strides = {feature: stride for feature, (_, _, stride) in maps.items()}
        # Remove the layers that are not used. They would not get gradients.
        if FINAL not in out_features:
            self.model.prune_intermediate_layers(sorted(self._indices.values()), prune_head=True)
        else:
            between = getattr(self.model, "head_hidden_size", None) not in (None, self.model.num_features)
            for part in ("conv_head", "norm_head", "pre_logits") if between else ():
                if hasattr(self.model, part):
                    setattr(self.model, part, nn.Identity())
            if hasattr(getattr(self.model, "head", None), "reset"):  # timm's class for the pooling and later layers
                self.model.head = nn.Identity()
        # On a CPU, depthwise convolutions are 1.2 to 1.3 times faster in this layout. (VGG's convolutions are slower.)
        self.model.to(memory_format=torch.channels_last)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map normalized images (N, 3, H, W) to feature maps by name, (N, channels, height, width) each."""
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
        # timm converts intermediate maps to the requested layout, but not the final map.
        if getattr(final, "ndim", 0) != 4:  # CoaT returns a list
            raise InputError("MODEL.TIMM.OUT_FEATURES final: the network ends with tokens; choose a stage<k> instead")
        return final.permute(0, 3, 1, 2) if getattr(self.model, "output_fmt", "NCHW") == "NHWC" else final


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """Build a :class:`TimmBackbone` from ``MODEL.TIMM``."""
    if cfg.MODEL.BACKBONE.FREEZE_AT > 0:
        raise InputError("MODEL.BACKBONE.FREEZE_AT is for VGG and ResNet; set MODEL.BACKBONE.FROZEN for a timm model")
    return TimmBackbone(cfg.MODEL.TIMM.NAME, cfg.MODEL.TIMM.OUT_FEATURES, pretrained=cfg.MODEL.TIMM.PRETRAINED)


def set_pixel_statistics(cfg: CfgNode) -> None:
    """Set the pixel mean and standard deviation that a timm model expects, and its image format.

    A model without statistics gets those of ImageNet.
    """
    model = cfg.MODEL
    if model.BACKBONE.NAME != "build_timm_backbone":
        return
    import timm

    settings = timm.get_pretrained_cfg(model.TIMM.NAME) or timm.models.PretrainedCfg()
    model.PIXEL_MEAN, model.PIXEL_STD = ([255 * value for value in part] for part in (settings.mean, settings.std))
    cfg.INPUT.FORMAT = "RGB"
