"""Weakly supervised RoI heads and box heads, registered in Detectron2's registries."""

from .box_head import AveragePoolBoxHead, VGGBoxHead
from .wsddn import RegionPredictions, WSDDNHeads, region_scores

__all__ = ["AveragePoolBoxHead", "RegionPredictions", "VGGBoxHead", "WSDDNHeads", "region_scores"]
