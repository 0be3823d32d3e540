"""The knowledge that a teacher hands to a student, as data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torchvision.ops import nms, roi_align

from mlickd.modeling.roi_heads import region_scores

__all__ = [
    "REGION_WEIGHTS",
    "RegionKnowledge",
    "TeacherKnowledge",
    "known_image_scores",
    "normalized_weights",
    "select_regions",
]

# Choices for the weight s' of a region, see `select_regions`.
REGION_WEIGHTS = ("teacher", "proposal", "uniform")


@dataclass
class TeacherKnowledge:
    """A teacher's knowledge of one view of one image.

    Attributes:
        image_scores: (C,) float32, the teacher's softened image scores p'^T, probabilities. None if no region is in
            view: then the teacher knows nothing of the view but its maps.
        boxes: (R, 4) float32, the selected regions R'_n, XYXY in pixels of the *student's* view.
        weights: (R,) float32, s' of each region.
        features: the teacher's features of the regions by its layer's name: (R, D, P, P) pooled maps, or (R, D)
            vectors of its box head, float32 or, from the cache, float16. Not yet weighted by s'.
        map_sizes: height and width of the teacher's feature map by layer, to which Psi resizes the student's.
        proposal_weights: (R,) float32, the factors that the teacher puts on pooled features before its box head;
            needed if features are compared after the box head.
        region_scores: (R, C) float32, the teacher's scores of the selected regions.
        maps: whole maps of the teacher for exactly this view, by kind (see ``MAP_KINDS``) and layer: (D, H, W) float32
            or, from the cache, float16.
    """

    image_scores: torch.Tensor | None
    boxes: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    features: dict[str, torch.Tensor] = field(default_factory=dict)
    map_sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    proposal_weights: torch.Tensor | None = None
    region_scores: torch.Tensor | None = None
    maps: dict[tuple[str, str], torch.Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> TeacherKnowledge:
        """Return the same knowledge on another device."""
        return self.map(lambda tensor: tensor.to(device))

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> TeacherKnowledge:
        """Return the same knowledge with ``function`` applied to every tensor."""

        def apply(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: apply(item) for key, item in value.items()}
            return function(value) if isinstance(value, torch.Tensor) else value

        return replace(self, **{f.name: apply(getattr(self, f.name)) for f in fields(self)})


@dataclass
class RegionKnowledge:
    """A teacher's outputs for the R regions of one view, K of which are selected as R'_n.

    Attributes:
        class_logits, detection_logits: (R, C) float32, both streams.
        selected: (K,) int64, indices of the selected regions; None if no regions are transferred.
        weights: (K,) float32, s' of each selected region.
        features: by the teacher's layer, (K, D, P, P) pooled maps or (K, D) vectors after its box head.
        map_sizes: height and width of the teacher's feature map by layer.
        proposal_weights: (K,) float32, factors on pooled features before the box head; only with features after it.
        maps: whole maps by kind and layer, (D, H, W).
    """

    class_logits: torch.Tensor
    detection_logits: torch.Tensor
    selected: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    features: dict[str, torch.Tensor] = field(default_factory=dict)
    map_sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    proposal_weights: torch.Tensor | None = None
    maps: dict[tuple[str, str], torch.Tensor] = field(default_factory=dict)

    def restrict(self, in_view: torch.Tensor, *, weights_from_scores: bool, normalize_weight: bool) -> RegionKnowledge:
        """Return the knowledge of a part of the regions: the rest of R'_n, with s' among the regions that remain.

        Args:
            in_view: (V,) int64, ascending indices of the regions that remain.
            weights_from_scores: compute s' again as the largest score that both streams give a region; otherwise s'
                stays as it was.
            normalize_weight: divide s' by its largest value in the image.
        """
        part = replace(self, class_logits=self.class_logits[in_view], detection_logits=self.detection_logits[in_view])
        if self.selected is None:
            return part
        position = torch.full((len(self.class_logits),), -1, device=in_view.device)
        position[in_view] = torch.arange(len(in_view), device=in_view.device)
        kept = (position[self.selected] >= 0).nonzero(as_tuple=True)[0]
        part.selected = position[self.selected[kept]]
        part.weights = self.weights[kept]
        if weights_from_scores:
            # The detection stream is a softmax over the regions in view.
            part.weights = region_scores(part.class_logits, part.detection_logits).amax(dim=1)[part.selected]
        if normalize_weight:
            part.weights = normalized_weights(part.weights)
        part.features = {layer: feature[kept] for layer, feature in self.features.items()}
        if self.proposal_weights is not None:
            part.proposal_weights = self.proposal_weights[kept]
        return part

    def mirror(self) -> RegionKnowledge:
        """Return an approximation for the mirrored view: maps are flipped, vectors stay as they are."""
        flipped = {
            layer: feature.flip(-1) if feature.dim() == 4 else feature for layer, feature in self.features.items()
        }
        return replace(self, features=flipped, maps={key: whole.flip(-1) for key, whole in self.maps.items()})

    def crop_maps(self, part: tuple[float, float, float, float]) -> RegionKnowledge:
        """Return the same knowledge with a part of each map, enlarged to the size of the map, for the view of a crop.

        Args:
            part: x0, y0, x1, y1 as fractions of the map.
        """
        return replace(self, maps={key: _enlarge_part(whole, part) for key, whole in self.maps.items()})

    def as_knowledge(self, boxes: torch.Tensor, temperature: float) -> TeacherKnowledge:
        """Return the knowledge for a student.

        Args:
            boxes: (R, 4) float32, all regions in pixels of the student's view.
            temperature: divides the logits of the image scores.
        """
        image_scores = None
        if len(boxes) > 0:
            image_scores = region_scores(self.class_logits, self.detection_logits, temperature).sum(dim=0)
        if self.selected is None:
            return TeacherKnowledge(image_scores, maps=self.maps)
        return TeacherKnowledge(
            image_scores=image_scores,
            maps=self.maps,
            region_scores=region_scores(self.class_logits, self.detection_logits)[self.selected],
            boxes=boxes.to(self.selected.device)[self.selected],
            weights=self.weights,
            features=self.features,
            map_sizes=self.map_sizes,
            proposal_weights=self.proposal_weights,
        )


def known_image_scores(
    knowledge: Sequence[TeacherKnowledge], logits: torch.Tensor
) -> tuple[list[int], torch.Tensor | None]:
    """Return the teacher's image scores of a batch.

    Args:
        knowledge: knowledge of N images.
        logits: (N, C) logits of the student.

    Returns:
        Indices of the K images with image scores, and these (K, C) scores in the dtype of the logits, clamped to
        [0, 1] because sums of products of softmaxes exceed 1 by rounding. None if there are no such images.
    """
    known = [i for i, k in enumerate(knowledge) if k.image_scores is not None]
    if not known:
        return known, None
    return known, torch.stack([knowledge[i].image_scores for i in known]).to(logits.dtype).clamp(0, 1)


def normalized_weights(weights: torch.Tensor) -> torch.Tensor:
    """Return s' of the regions of one image divided by its largest value."""
    return weights / weights.max().clamp(min=torch.finfo(weights.dtype).tiny) if len(weights) > 0 else weights


def select_regions(
    boxes: torch.Tensor,
    region_scores: torch.Tensor,
    objectness: torch.Tensor,
    *,
    weight: str = "teacher",
    normalize_weight: bool = True,
    nms_thresh: float = 0.5,
    top_k: int = 32,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Select R'_n and s' of one image (section 3.2 of the paper, which does not publish the exact rule).

    Args:
        boxes: (R, 4) XYXY.
        region_scores: (R, C) per-class scores of the teacher.
        objectness: (R,) the proposals' scores.
        weight: s' is ``teacher`` (the largest class score of the region), ``proposal`` (objectness) or ``uniform``.
        normalize_weight: divide s' by its largest value in the image.
        nms_thresh: IoU above which the region of smaller s' is dropped; 1 drops none.
        top_k: number of regions kept, by s'; 0 keeps all.

    Returns:
        Indices of the regions, largest s' first, and their s'.
    """
    if weight == "teacher":
        weights = region_scores.amax(dim=1)
    elif weight == "proposal":
        weights = objectness
    elif weight == "uniform":
        weights = torch.ones_like(objectness)
    else:
        raise ValueError(f"weight {weight!r} must be one of {', '.join(REGION_WEIGHTS)}")
    if nms_thresh < 1:
        keep = nms(boxes, weights, nms_thresh)
    else:
        keep = weights.argsort(descending=True, stable=True)
    if top_k > 0:
        keep = keep[:top_k]
    weights = weights[keep]
    return keep, normalized_weights(weights) if normalize_weight else weights


def _enlarge_part(whole: torch.Tensor, part: tuple[float, float, float, float]) -> torch.Tensor:
    """Sample a part of a map (D, H, W) bilinearly at H x W cells."""
    height, width = whole.shape[-2:]
    box = whole.new_tensor([part], dtype=torch.float32) * torch.tensor([width, height] * 2)
    sampled = roi_align(whole[None].float(), [box], (height, width), sampling_ratio=1, aligned=True)
    return sampled[0].to(whole.dtype)
