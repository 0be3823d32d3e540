"""What a teacher says of the regions of one view, and what of it holds for the view of a student."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torchvision.ops import roi_align

from mlickd.modeling.roi_heads import region_scores

from .knowledge import TeacherKnowledge, normalized_weights

__all__ = ["RegionKnowledge"]


@dataclass
class RegionKnowledge:
    """A teacher's word on the R regions of one view, K of which are selected as R'_n.

    Attributes:
        class_logits, detection_logits: (R, C) float32, both streams.
        selected: (K,) int64, indices of the selected regions; None where there are none to transfer.
        weights: (K,) float32, s' of each.
        features: by the teacher's layer, (K, D, P, P) pooled maps or (K, D) vectors behind its box head.
        map_sizes: height and width of the teacher's feature map by layer.
        proposal_weights: (K,) float32, factors on pooled features before the box head, where features are behind it.
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

    def restricted(self, in_view: torch.Tensor, *, weights_of_streams: bool, normalize: bool) -> RegionKnowledge:
        """The same of a part of the regions: what is left of R'_n, its s' as the regions that remain give them.

        Args:
            in_view: (V,) int64, ascending indices of the regions that remain.
            weights_of_streams: s' is the largest score that both streams give a region; otherwise it stays as it was.
            normalize: divide s' by its largest value in the image.
        """
        part = replace(self, class_logits=self.class_logits[in_view], detection_logits=self.detection_logits[in_view])
        if self.selected is None:
            return part
        place = torch.full((len(self.class_logits),), -1, device=in_view.device)
        place[in_view] = torch.arange(len(in_view), device=in_view.device)
        kept = (place[self.selected] >= 0).nonzero(as_tuple=True)[0]
        part.selected = place[self.selected[kept]]
        part.weights = self.weights[kept]
        if weights_of_streams:
            # The detection stream is a softmax over the regions that are there.
            part.weights = region_scores(part.class_logits, part.detection_logits).amax(dim=1)[part.selected]
        if normalize:
            part.weights = normalized_weights(part.weights)
        part.features = {layer: feature[kept] for layer, feature in self.features.items()}
        if self.proposal_weights is not None:
            part.proposal_weights = self.proposal_weights[kept]
        return part

    def mirrored(self) -> RegionKnowledge:
        """What is known of the mirrored view from this one: maps are flipped, vectors stay as they are."""
        flipped = {
            layer: feature.flip(-1) if feature.dim() == 4 else feature for layer, feature in self.features.items()
        }
        return replace(self, features=flipped, maps={key: of_view.flip(-1) for key, of_view in self.maps.items()})

    def with_maps_of(self, part: tuple[float, float, float, float]) -> RegionKnowledge:
        """The same with that part of the maps, enlarged to their size, as the view of a crop has it.

        Args:
            part: x0, y0, x1, y1 as fractions of the map.
        """
        return replace(self, maps={key: _enlarged(of_view, part) for key, of_view in self.maps.items()})

    def as_knowledge(self, boxes: torch.Tensor, temperature: float) -> TeacherKnowledge:
        """
        Args:
            boxes: (R, 4) float32, all regions in pixels of the student's view.
            temperature: of the image scores.
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


def _enlarged(of_view: torch.Tensor, part: tuple[float, float, float, float]) -> torch.Tensor:
    """Bilinear samples, at as many cells, of a part of a map (D, H, W)."""
    height, width = of_view.shape[-2:]
    box = of_view.new_tensor([part], dtype=torch.float32) * torch.tensor([width, height] * 2)
    sampled = roi_align(of_view[None].float(), [box], (height, width), sampling_ratio=1, aligned=True)
    return sampled[0].to(of_view.dtype)
