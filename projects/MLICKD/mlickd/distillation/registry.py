"""The distillers by name."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.utils.registry import Registry
from torch import nn

from mlickd.errors import InputError

__all__ = [
    "FEATURE_DISTILLER_REGISTRY",
    "PREDICTION_DISTILLER_REGISTRY",
    "build_feature_distiller",
    "build_prediction_distiller",
    "feature_distiller_class",
]

FEATURE_DISTILLER_REGISTRY = Registry("FEATURE_DISTILLER")
FEATURE_DISTILLER_REGISTRY.__doc__ = """
Distillers of feature maps: of stage 1, or beside the labels in stage 2. Called as ``obj(cfg, student)`` with the
student's model; the result is a module called as ``distiller(features, image_sizes, knowledge, targets)`` that returns
a scalar loss. The class says in ``asks_for`` what the teacher is to give, see :class:`KnowledgeRequest`, and in
``needs_labels`` whether it works beside the labels alone; without it ``targets`` may be None.
"""

PREDICTION_DISTILLER_REGISTRY = Registry("PREDICTION_DISTILLER")
PREDICTION_DISTILLER_REGISTRY.__doc__ = """
Distillers of image scores, in stage 2. Called as ``obj(cfg)``; the result is a module called as
``distiller(logits, knowledge)`` that returns a scalar loss, to which the label loss is added.
"""


def feature_distiller_class(cfg: CfgNode) -> type[nn.Module]:
    """The class that ``KD.FEATURE.DISTILLER`` names."""
    return _registered(FEATURE_DISTILLER_REGISTRY, "KD.FEATURE.DISTILLER", cfg.KD.FEATURE.DISTILLER)


def build_feature_distiller(cfg: CfgNode, student: nn.Module) -> nn.Module:
    """The distiller that ``KD.FEATURE.DISTILLER`` names."""
    return feature_distiller_class(cfg)(cfg, student)


def build_prediction_distiller(cfg: CfgNode) -> nn.Module:
    """The distiller that ``KD.PREDICTION.DISTILLER`` names."""
    return _registered(PREDICTION_DISTILLER_REGISTRY, "KD.PREDICTION.DISTILLER", cfg.KD.PREDICTION.DISTILLER)(cfg)


def _registered(registry: Registry, key: str, name: str) -> type[nn.Module]:
    try:
        return registry.get(name)
    except KeyError as error:
        known = ", ".join(sorted(name for name, _ in registry))
        raise InputError(f"{key} {name!r} is none of {known}; give one of them") from error
