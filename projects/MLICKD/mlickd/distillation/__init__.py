"""From teacher to student: knowledge, where it comes from, and the distillers of both stages."""

from .distilled_classifier import KD_STAGES, DistilledClassifier
from .feature import FEATURE_DISTILLER_REGISTRY, RoIDistiller, build_feature_distiller
from .hook import DistillationHook, KnowledgeLoader
from .knowledge import TeacherKnowledge, select_regions
from .prediction import PREDICTION_DISTILLER_REGISTRY, SoftLabelDistiller, build_prediction_distiller
from .regions import RegionKnowledge
from .teacher import FrozenTeacher, LiveTeacher

__all__ = [
    "KD_STAGES",
    "FEATURE_DISTILLER_REGISTRY",
    "PREDICTION_DISTILLER_REGISTRY",
    "DistillationHook",
    "DistilledClassifier",
    "FrozenTeacher",
    "KnowledgeLoader",
    "LiveTeacher",
    "RegionKnowledge",
    "RoIDistiller",
    "SoftLabelDistiller",
    "TeacherKnowledge",
    "build_feature_distiller",
    "build_prediction_distiller",
    "select_regions",
]
