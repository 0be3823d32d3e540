"""Teacher and student, registered in Detectron2's ``META_ARCH_REGISTRY``."""

from .multilabel_classifier import ClassifierHead, MultiLabelClassifier
from .preprocess import ImageModel
from .weakly_supervised_detector import WeaklySupervisedDetector

__all__ = ["ClassifierHead", "ImageModel", "MultiLabelClassifier", "WeaklySupervisedDetector"]
