"""Backbones, registered in Detectron2's ``BACKBONE_REGISTRY``, and their initial weights."""

from .timm_backbone import TimmBackbone, build_timm_backbone
from .vgg import VGG, build_vgg_backbone
from .weights import check_backbone_weights, load_backbone_weights

__all__ = [
    "VGG",
    "TimmBackbone",
    "build_timm_backbone",
    "build_vgg_backbone",
    "check_backbone_weights",
    "load_backbone_weights",
]
