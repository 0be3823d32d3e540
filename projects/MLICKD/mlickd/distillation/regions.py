"""What a teacher says of the regions of one view, and what of it holds for the view of a student."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch

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
    """

    class_logits: torch.Tensor
    detection_logits: torch.Tensor
    selected: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    features: dict[str, torch.Tensor] = field(default_factory=dict)
    map_sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    proposal_weights: torch.Tensor | None = None

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
        """What is known of the mirrored view from this one: pooled maps are flipped, vectors stay as they are."""
        flipped = {
            layer: feature.flip(-1) if feature.dim() == 4 else feature for layer, feature in self.features.items()
        }
        return replace(self, features=flipped)

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
            return TeacherKnowledge(image_scores)
        return TeacherKnowledge(
            image_scores=image_scores,
            boxes=boxes.to(self.selected.device)[self.selected],
            weights=self.weights,
            features=self.features,
            map_sizes=self.map_sizes,
            proposal_weights=self.proposal_weights,
        )
