"""Teacher and student, registered in Detectron2's ``META_ARCH_REGISTRY``."""

from .multilabel_classifier import ClassifierHead, MultiLabelClassifier
from .weakly_supervised_detector import WeaklySupervisedDetector

__all__ = ["ClassifierHead", "MultiLabelClassifier", "WeaklySupervisedDetector"]
