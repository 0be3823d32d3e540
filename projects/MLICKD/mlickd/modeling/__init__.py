"""Models: backbones, RoI heads, meta architectures and losses."""

from .. import registration  # noqa: F401
from .backbone import VGG, TimmBackbone, load_backbone_weights
from .checkpoint import load_checkpoint
from .meta_arch import ImageModelWithTTA, MultiLabelClassifier, WeaklySupervisedDetector
from .roi_heads import AveragePoolBoxHead, VGGBoxHead, WSDDNHeads

__all__ = [
    "VGG",
    "AveragePoolBoxHead",
    "ImageModelWithTTA",
    "MultiLabelClassifier",
    "TimmBackbone",
    "VGGBoxHead",
    "WSDDNHeads",
    "WeaklySupervisedDetector",
    "load_backbone_weights",
    "load_checkpoint",
]
