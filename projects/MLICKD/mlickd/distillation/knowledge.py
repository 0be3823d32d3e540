"""A teacher's outputs for an image, and the knowledge that a student receives from them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torchvision.ops import nms, roi_align

from mlickd.modeling.roi_heads import mix_with_context, region_scores

# Choices for the weight s' of a region, see `select_regions`.
REGION_WEIGHTS = ("teacher", "proposal", "uniform")


@dataclass
class TeacherKnowledge:
    """A teacher's knowledge of one view of one image, for the student.

    Attributes:
        image_scores: (C,) float32, the teacher's softened image scores p'^T, probabilities. None if the view contains
            no region and the teacher has no context classifier: the teacher then knows only the maps.
        boxes: (R, 4) float32, the selected regions R'_n, XYXY in pixels of the *student's* view.
        region_weights: (R,) float32, s' of each region.
        features: features of the regions by the teacher's layer: (R, D, P, P) pooled maps, or (R, D) vectors after
            the box head; float32 or, from the cache, float16. Not yet weighted by s'.
        map_sizes: height and width of the teacher's feature map by layer. Psi resizes the student's map to this size.
        proposal_weights: (R,) float32, the teacher's factors on pooled features before its box head; None if features
            are compared before the box head.
        region_scores: (R, C) float32, the teacher's scores of the regions.
        maps: whole maps of the teacher for exactly this view, by kind (see ``MAP_KINDS``) and layer: (D, H, W) float32
            or, from the cache, float16.
    """

    image_scores: torch.Tensor | None
    boxes: torch.Tensor | None = None
    region_weights: torch.Tensor | None = None
    features: dict[str, torch.Tensor] = field(default_factory=dict)
    map_sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    proposal_weights: torch.Tensor | None = None
    region_scores: torch.Tensor | None = None
    maps: dict[tuple[str, str], torch.Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> TeacherKnowledge:
        """Return the same knowledge on another device."""

        def move(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: move(item) for key, item in value.items()}
            return value.to(device) if isinstance(value, torch.Tensor) else value

        return replace(self, **{f.name: move(getattr(self, f.name)) for f in fields(self)})


@dataclass
class TeacherOutputs:
    """A teacher's outputs for the R regions of one view. The rule of ``KD.REGIONS`` selects K of them as R'_n.

    Attributes:
        class_logits, detection_logits: (R, C) float32, logits of both streams.
        selected: (K,) int64, indices of the selected regions; None if no regions are transferred.
        region_weights, features, map_sizes, proposal_weights, maps: see :class:`TeacherKnowledge`, for the K regions.
        context_map, context_weight: (C, H, W) logits of the context classifier at each cell of the view, and its weight
            in the image scores, see :func:`mlickd.modeling.roi_heads.mix_with_context`; None without context.
    """

    class_logits: torch.Tensor
    detection_logits: torch.Tensor
    selected: torch.Tensor | None = None
    region_weights: torch.Tensor | None = None
    features: dict[str, torch.Tensor] = field(default_factory=dict)
    map_sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    proposal_weights: torch.Tensor | None = None
    maps: dict[tuple[str, str], torch.Tensor] = field(default_factory=dict)
    context_map: torch.Tensor | None = None
    context_weight: float = 0.0

    def keep_regions(self, in_view: torch.Tensor, *, weights_from_scores: bool) -> TeacherOutputs:
        """Return the outputs for the regions in view.

        Args:
            in_view: (V,) int64, ascending indices of the regions in view.
            weights_from_scores: compute s' again, as the largest score of a region among the regions in view;
                otherwise keep s'.
        """
        part = replace(self, class_logits=self.class_logits[in_view], detection_logits=self.detection_logits[in_view])
        if self.selected is None:
            return part
        kept = torch.isin(self.selected, in_view)
        part.selected = torch.searchsorted(in_view, self.selected[kept])
        part.region_weights = self.region_weights[kept]
        if weights_from_scores:
            # The softmax of the detection stream runs over the regions in view only.
            part.region_weights = region_scores(part.class_logits, part.detection_logits).amax(dim=1)[part.selected]
        part.region_weights = _normalize(part.region_weights)
        part.features = {layer: feature[kept] for layer, feature in self.features.items()}
        if self.proposal_weights is not None:
            part.proposal_weights = self.proposal_weights[kept]
        return part

    def mirror(self) -> TeacherOutputs:
        """Return an approximation of the outputs for the mirrored view: maps are flipped, vectors are not changed."""
        features = {layer: f.flip(-1) if f.dim() == 4 else f for layer, f in self.features.items()}
        maps = {key: whole.flip(-1) for key, whole in self.maps.items()}
        context_map = None if self.context_map is None else self.context_map.flip(-1)
        return replace(self, features=features, maps=maps, context_map=context_map)

    def crop_maps(self, crop: tuple[float, float, float, float]) -> TeacherOutputs:
        """Return the outputs with a crop of each map, enlarged to the size of the map by bilinear sampling.

        The map of the context classifier becomes one cell, the mean of the cells in the crop.

        Args:
            crop: x0, y0, x1, y1 as fractions of the map.
        """
        maps = {}
        for key, whole in self.maps.items():
            height, width = whole.shape[-2:]
            box = torch.tensor([crop], dtype=torch.float32) * torch.tensor([width, height] * 2)
            cropped = roi_align(whole[None].float(), [box], (height, width), sampling_ratio=1, aligned=True)
            maps[key] = cropped[0].to(whole.dtype)
        context_map = self.context_map
        if context_map is not None:
            height, width = context_map.shape[-2:]
            rows, columns = _overlap_weights(height, crop[1], crop[3]), _overlap_weights(width, crop[0], crop[2])
            context_map = torch.einsum("chw,h,w->c", context_map.float(), rows, columns)[:, None, None]
        return replace(self, maps=maps, context_map=context_map)

    def to_knowledge(self, boxes: torch.Tensor, temperature: float) -> TeacherKnowledge:
        """Return the knowledge for a student.

        Args:
            boxes: (R, 4) float32, all regions in pixels of the student's view.
            temperature: divisor of the logits for the image scores.
        """
        scores = region_scores(self.class_logits, self.detection_logits, temperature).sum(dim=0)
        knowledge = TeacherKnowledge(scores if len(boxes) > 0 else None, maps=self.maps)
        if self.context_map is not None:
            weight = self.context_weight if len(boxes) > 0 else 1.0
            knowledge.image_scores = mix_with_context(scores, self.context_map, weight, temperature)
        if self.selected is None:
            return knowledge
        return replace(
            knowledge,
            region_scores=region_scores(self.class_logits, self.detection_logits)[self.selected],
            boxes=boxes.to(self.selected.device)[self.selected],
            region_weights=self.region_weights,
            features=self.features,
            map_sizes=self.map_sizes,
            proposal_weights=self.proposal_weights,
        )


def select_regions(
    boxes: torch.Tensor,
    region_scores: torch.Tensor,
    objectness: torch.Tensor,
    *,
    weight: str = "teacher",
    nms_thresh: float = 0.5,
    top_k: int = 32,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Select R'_n and s' of one image (section 3.2 of the paper, which does not publish the exact rule).

    Args:
        boxes: (R, 4) XYXY.
        region_scores: (R, C) scores of the teacher.
        objectness: (R,) scores of the proposals.
        weight: s' is ``teacher`` (the largest class score of the region), ``proposal`` (objectness, 0 if negative) or
            ``uniform``, divided by its largest value among the selected regions.
        nms_thresh: IoU above which the region with the smaller s' is dropped; 1 keeps all regions.
        top_k: number of regions with the largest s' to keep; 0 keeps all.

    Returns:
        Indices of the regions, largest s' first, and their s'.
    """
    if weight == "teacher":
        weights = region_scores.amax(dim=1)
    else:
        weights = objectness if weight == "proposal" else torch.ones_like(objectness)
    if nms_thresh < 1:
        keep = nms(boxes, weights, nms_thresh)
    else:
        keep = weights.argsort(descending=True, stable=True)
    if top_k > 0:
        keep = keep[:top_k]
    return keep, _normalize(weights[keep].clamp(min=0))


def _normalize(weights: torch.Tensor) -> torch.Tensor:
    return weights / weights.max().clamp(min=torch.finfo(weights.dtype).tiny) if len(weights) > 0 else weights


def _overlap_weights(cells: int, low: float, high: float) -> torch.Tensor:
    """Return the weights of ``cells`` equal parts of [0, 1], proportional to their overlap with ``low`` to ``high``."""
    edges = torch.arange(cells + 1) / cells
    overlap = edges[1:].clamp(max=high) - edges[:-1].clamp(min=low)
    return overlap.clamp(min=0) / overlap.clamp(min=0).sum()
