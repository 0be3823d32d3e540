"""Backbones, registered in Detectron2's ``BACKBONE_REGISTRY``, and their initial weights."""

from .timm_backbone import TimmBackbone
from .vgg import VGG
from .weights import check_backbone_weights, load_backbone_weights

__all__ = ["VGG", "TimmBackbone", "check_backbone_weights", "load_backbone_weights"]
