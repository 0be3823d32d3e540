"""The distillers: losses that train a student with its teacher's knowledge, one file for each kind."""

from .base import FEATURE_DISTILLER_REGISTRY, PREDICTION_DISTILLER_REGISTRY, FeatureDistiller
from .binary_logits import HintonDistiller, MLDDistiller
from .feature_maps import AttentionTransferDistiller, FitNetsDistiller
from .label_embeddings import LabelEmbeddingDistiller
from .roi_features import RoIDistiller
from .soft_labels import SoftLabelDistiller

__all__ = [
    "FEATURE_DISTILLER_REGISTRY",
    "PREDICTION_DISTILLER_REGISTRY",
    "AttentionTransferDistiller",
    "FeatureDistiller",
    "FitNetsDistiller",
    "HintonDistiller",
    "LabelEmbeddingDistiller",
    "MLDDistiller",
    "RoIDistiller",
    "SoftLabelDistiller",
]
