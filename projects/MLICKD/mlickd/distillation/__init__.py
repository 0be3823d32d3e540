"""From teacher to student: knowledge, where it comes from, and the distillers of both stages."""

from .binary_logits import HintonDistiller, MLDDistiller
from .distilled_classifier import KD_STAGES, DistilledClassifier
from .feature import RoIDistiller
from .feature_maps import AttentionTransferDistiller, FitNetsDistiller
from .hook import DistillationHook, KnowledgeLoader
from .knowledge import TeacherKnowledge, select_regions
from .label_embeddings import LabelEmbeddingDistiller
from .prediction import SoftLabelDistiller
from .regions import RegionKnowledge
from .registry import (
    FEATURE_DISTILLER_REGISTRY,
    PREDICTION_DISTILLER_REGISTRY,
    build_feature_distiller,
    build_prediction_distiller,
)
from .request import KnowledgeRequest
from .teacher import FrozenTeacher, LiveTeacher

__all__ = [
    "KD_STAGES",
    "FEATURE_DISTILLER_REGISTRY",
    "PREDICTION_DISTILLER_REGISTRY",
    "AttentionTransferDistiller",
    "DistillationHook",
    "DistilledClassifier",
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
    "build_feature_distiller",
    "build_prediction_distiller",
    "select_regions",
]
