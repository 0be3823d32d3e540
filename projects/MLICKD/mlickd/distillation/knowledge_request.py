"""Requests for a teacher's features and maps, which some distillers need in addition to its image scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from detectron2.config import CfgNode

from .distillers.base import feature_distiller_class, parse_layer_pairs
from .distillers.feature_maps import spatial_attention

# Kinds of whole maps, with the function that computes the transferred map from the teacher's feature map.
MAP_KINDS = {"features": torch.Tensor.float, "attention": spatial_attention}


@dataclass(frozen=True)
class KnowledgeRequest:
    """The features and maps that a teacher returns in addition to its image scores.

    Attributes:
        region_layers: layers of the teacher that give the features of selected regions; empty for no region features.
        maps: whole maps, as pairs of a kind (a key of ``MAP_KINDS``) and a layer of the teacher.
    """

    region_layers: tuple[str, ...] = ()
    maps: tuple[tuple[str, str], ...] = ()

    @classmethod
    def for_stage(cls, cfg: CfgNode, stage: str | None = None) -> KnowledgeRequest:
        """Return the request of one stage of distillation, by default ``KD.STAGE``."""
        if (stage or cfg.KD.STAGE) == "prediction" and not cfg.KD.PREDICTION.FEATURE_LOSS:
            return cls()
        layers = tuple(dict.fromkeys(layer for layer, _ in parse_layer_pairs(cfg)))
        kind = feature_distiller_class(cfg).knowledge_kind
        return cls(region_layers=layers) if kind == "regions" else cls(maps=tuple((kind, layer) for layer in layers))

    @classmethod
    def for_method(cls, cfg: CfgNode) -> KnowledgeRequest:
        """Return the request of all stages in ``KD.METHOD_STAGES``."""
        request = cls()
        for stage in cfg.KD.METHOD_STAGES:
            request |= cls.for_stage(cfg, stage)
        return request

    def __or__(self, other: KnowledgeRequest) -> KnowledgeRequest:
        """Return a request for the features and maps of both requests."""
        return KnowledgeRequest(
            tuple(dict.fromkeys([*self.region_layers, *other.region_layers])),
            tuple(dict.fromkeys([*self.maps, *other.maps])),
        )
