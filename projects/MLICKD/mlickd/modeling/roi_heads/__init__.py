"""Weakly supervised RoI heads and box heads, registered in Detectron2's registries."""

from .oicr import OICRHeads
from .region_features import AveragePoolBoxHead, VGGBoxHead
from .wsddn import RegionPredictions, WSDDNHeads, region_scores

__all__ = ["AveragePoolBoxHead", "OICRHeads", "RegionPredictions", "VGGBoxHead", "WSDDNHeads", "region_scores"]
