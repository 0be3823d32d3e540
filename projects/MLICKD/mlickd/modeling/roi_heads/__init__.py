"""Weakly supervised RoI heads and box heads, registered in Detectron2's registries."""

from .box_heads import AveragePoolBoxHead, VGGBoxHead
from .oicr import OICRHeads
from .wsddn import RegionPredictions, WSDDNHeads, mix_with_context, normalize_features, pooler_arguments, region_scores

__all__ = [
    "AveragePoolBoxHead",
    "OICRHeads",
    "RegionPredictions",
    "VGGBoxHead",
    "WSDDNHeads",
    "mix_with_context",
    "normalize_features",
    "pooler_arguments",
    "region_scores",
]
