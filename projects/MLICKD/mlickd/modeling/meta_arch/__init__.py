"""Teacher and student, registered in Detectron2's ``META_ARCH_REGISTRY``, and test-time augmentation."""

from .image_model import ImageModel, ImageModelWithTTA, mirrored_view
from .multilabel_classifier import ClassifierWithActivationMaps, MultiLabelClassifier
from .weakly_supervised_detector import WeaklySupervisedDetector

__all__ = [
    "ClassifierWithActivationMaps",
    "ImageModel",
    "ImageModelWithTTA",
    "MultiLabelClassifier",
    "WeaklySupervisedDetector",
    "mirrored_view",
]
