"""From teacher to student: knowledge, where it comes from, and the distillers of both stages."""

from .distilled_classifier import KD_STAGES, DistilledClassifier
from .distillers import (
    FEATURE_DISTILLER_REGISTRY,
    PREDICTION_DISTILLER_REGISTRY,
    AttentionTransferDistiller,
    FeatureDistiller,
    FitNetsDistiller,
    HintonDistiller,
    LabelEmbeddingDistiller,
    MLDDistiller,
    RoIDistiller,
    SoftLabelDistiller,
)
from .hook import DistillationHook, KnowledgeLoader
from .knowledge import RegionKnowledge, TeacherKnowledge, select_regions
from .request import KnowledgeRequest
from .teacher import FrozenTeacher, LiveTeacher

__all__ = [
    "KD_STAGES",
    "FEATURE_DISTILLER_REGISTRY",
    "PREDICTION_DISTILLER_REGISTRY",
    "AttentionTransferDistiller",
    "DistillationHook",
    "DistilledClassifier",
    "FeatureDistiller",
    "FitNetsDistiller",
    "FrozenTeacher",
    "HintonDistiller",
    "KnowledgeLoader",
    "KnowledgeRequest",
    "LabelEmbeddingDistiller",
    "LiveTeacher",
    "MLDDistiller",
    "RegionKnowledge",
    "RoIDistiller",
    "SoftLabelDistiller",
    "TeacherKnowledge",
    "select_regions",
]
