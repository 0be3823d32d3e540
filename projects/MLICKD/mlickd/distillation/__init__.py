"""Distillation from teacher to student: the knowledge, its sources, and the distillers of both stages."""

from .. import registration  # noqa: F401
from .distilled_classifier import KD_STAGES, DistilledClassifier
from .distillers.base import (
    FEATURE_DISTILLER_REGISTRY,
    PREDICTION_DISTILLER_REGISTRY,
    FeatureDistiller,
    PredictionDistiller,
)
from .distillers.feature_maps import AttentionTransferDistiller, FitNetsDistiller
from .distillers.image_scores import HintonDistiller, SoftLabelDistiller
from .distillers.label_embeddings import LabelEmbeddingDistiller
from .distillers.roi_features import RoIDistiller
from .hook import DistillationHook, KnowledgeLoader
from .knowledge import TeacherKnowledge, TeacherOutputs, select_regions
from .knowledge_request import KnowledgeRequest
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
    "PredictionDistiller",
    "RoIDistiller",
    "SoftLabelDistiller",
    "TeacherKnowledge",
    "TeacherOutputs",
    "select_regions",
]
