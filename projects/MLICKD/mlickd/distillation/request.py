"""What a method asks its teacher for, in addition to image scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from detectron2.config import CfgNode

from .distillers.base import feature_distiller_class, parse_layer_pairs
from .distillers.feature_maps import spatial_attention

__all__ = ["MAP_KINDS", "KnowledgeRequest"]

# Kinds of whole maps: functions from the teacher's feature map to the map that is transferred.
MAP_KINDS = {"features": torch.Tensor.float, "attention": spatial_attention}


@dataclass(frozen=True)
class KnowledgeRequest:
    """What a teacher gives in addition to image scores.

    Attributes:
        region_layers: the teacher's layers from which the regions R'_n have features. Empty: no regions.
        maps: whole maps, as (a key of MAP_KINDS, layer).
    """

    region_layers: tuple[str, ...] = ()
    maps: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_stage(cls, cfg: CfgNode, stage: str | None = None) -> KnowledgeRequest:
        """Return what a stage of a method needs; None is ``KD.STAGE``."""
        if (stage or cfg.KD.STAGE) == "prediction" and not cfg.KD.PREDICTION.FEATURE_LOSS:
            return cls()
        layers = tuple(dict.fromkeys(layer for layer, _ in parse_layer_pairs(cfg)))
        kind = feature_distiller_class(cfg).asks_for
        return cls(region_layers=layers) if kind == "regions" else cls(maps=tuple((kind, layer) for layer in layers))

    @classmethod
    def from_method(cls, cfg: CfgNode) -> KnowledgeRequest:
        """Return what all stages of a method, ``KD.METHOD_STAGES``, need."""
        request = cls()
        for stage in cfg.KD.METHOD_STAGES:
            request |= cls.from_stage(cfg, stage)
        return request

    def __or__(self, other: KnowledgeRequest) -> KnowledgeRequest:
        """Return what one or the other asks for."""
        return KnowledgeRequest(
            tuple(dict.fromkeys([*self.region_layers, *other.region_layers])),
            tuple(dict.fromkeys([*self.maps, *other.maps])),
        )
