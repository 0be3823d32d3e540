"""What a method asks its teacher for, beside image scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from detectron2.config import CfgNode

from mlickd.errors import InputError

from .registry import feature_distiller_class

__all__ = ["MAP_KINDS", "KnowledgeRequest", "parse_layer_pairs", "spatial_attention"]


def spatial_attention(feature_map: torch.Tensor) -> torch.Tensor:
    """Where a network looks (Zagoruyko & Komodakis 2017): the sum of squares over the channels, of unit length.

    Args:
        feature_map: (N, D, H, W).

    Returns:
        (N, 1, H, W) float32, each divided by its L2 norm over all cells; zeros where the map is zero.
    """
    energy = feature_map.float().pow(2).sum(dim=1, keepdim=True)
    return torch.nn.functional.normalize(energy.flatten(1)).view_as(energy)


# What of a whole map of the teacher can be asked for.
MAP_KINDS = {"features": torch.Tensor.float, "attention": spatial_attention}


def parse_layer_pairs(cfg: CfgNode) -> list[tuple[str, str]]:
    """``KD.FEATURE.LAYERS`` as (teacher's layer, student's layer).

    Raises:
        InputError: an entry is not ``teacher:student``, or there is none, or more than one for regions behind the box
            head.
    """
    pairs = [tuple(entry.split(":")) for entry in cfg.KD.FEATURE.LAYERS]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise InputError(
            f"KD.FEATURE.LAYERS {list(cfg.KD.FEATURE.LAYERS)}: give each entry as '<teacher layer>:<student layer>'"
        )
    of_regions = feature_distiller_class(cfg).asks_for == "regions"
    if of_regions and cfg.KD.FEATURE.COMPARE == "box_head" and len(pairs) != 1:
        raise InputError("KD.FEATURE.COMPARE box_head compares one layer; give one entry in KD.FEATURE.LAYERS")
    return pairs


@dataclass(frozen=True)
class KnowledgeRequest:
    """What is asked of a teacher; image scores it gives always.

    Attributes:
        region_layers: the teacher's layers of which the regions R'_n are to have features. Empty: no regions.
        maps: whole maps, as (a key of MAP_KINDS, layer).
    """

    region_layers: tuple[str, ...] = ()
    maps: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of_stage(cls, cfg: CfgNode) -> KnowledgeRequest:
        """What the stage ``KD.STAGE`` of a method needs."""
        if cfg.KD.STAGE == "prediction" and not cfg.KD.PREDICTION.FEATURE_LOSS:
            return cls()
        layers = tuple(dict.fromkeys(layer for layer, _ in parse_layer_pairs(cfg)))
        kind = feature_distiller_class(cfg).asks_for
        return cls(region_layers=layers) if kind == "regions" else cls(maps=tuple((kind, layer) for layer in layers))

    @classmethod
    def of_method(cls, cfg: CfgNode) -> KnowledgeRequest:
        """What all stages of a method, ``KD.METHOD_STAGES``, need."""
        request = cls()
        for stage in cfg.KD.METHOD_STAGES:
            of_stage = cfg.clone()
            of_stage.defrost()
            of_stage.KD.STAGE = stage
            request |= cls.of_stage(of_stage)
        return request

    def __or__(self, other: KnowledgeRequest) -> KnowledgeRequest:
        """What either asks for."""
        return KnowledgeRequest(
            tuple(dict.fromkeys([*self.region_layers, *other.region_layers])),
            tuple(dict.fromkeys([*self.maps, *other.maps])),
        )
