"""What a teacher hands to a student, as data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torchvision.ops import nms

__all__ = ["REGION_WEIGHTS", "TeacherKnowledge", "select_regions"]

# What s' of a region can be, see `select_regions`.
REGION_WEIGHTS = ("teacher", "proposal", "uniform")


@dataclass
class TeacherKnowledge:
    """A teacher's knowledge of one view of one image.

    Attributes:
        image_scores: (C,) the teacher's softened image scores p'^T, probabilities.
        boxes: (R, 4) float32, the selected regions R'_n, XYXY in pixels of the *student's* view.
        weights: (R,) float32, s' of each region.
        features: the teacher's features of the regions by its layer's name: (R, D, P, P) pooled maps, or (R, D)
            vectors of its box head. Not yet weighted by s'.
        map_sizes: height and width of the teacher's feature map by layer, to which Psi resizes the student's.
        proposal_weights: (R,) float32, the factors that the teacher puts on pooled features before its box head;
            needed where features are compared behind it.
    """

    image_scores: torch.Tensor
    boxes: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    features: dict[str, torch.Tensor] = field(default_factory=dict)
    map_sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    proposal_weights: torch.Tensor | None = None

    def _tensors(self) -> list[torch.Tensor]:
        fields = (self.image_scores, self.boxes, self.weights, self.proposal_weights)
        return [*(tensor for tensor in fields if tensor is not None), *self.features.values()]

    @property
    def num_bytes(self) -> int:
        """Memory of all arrays."""
        return sum(tensor.nbytes for tensor in self._tensors())

    def to(self, device: torch.device | str) -> TeacherKnowledge:
        """The same knowledge on another device; itself where it is there already."""
        if all(tensor.device == torch.device(device) for tensor in self._tensors()):
            return self

        def moved(tensor: torch.Tensor | None) -> torch.Tensor | None:
            return None if tensor is None else tensor.to(device)

        return replace(
            self,
            image_scores=moved(self.image_scores),
            boxes=moved(self.boxes),
            weights=moved(self.weights),
            features={layer: moved(feature) for layer, feature in self.features.items()},
            proposal_weights=moved(self.proposal_weights),
        )


def select_regions(
    boxes: torch.Tensor,
    region_scores: torch.Tensor,
    objectness: torch.Tensor,
    *,
    weight: str = "teacher",
    normalize: bool = True,
    nms_thresh: float = 0.5,
    top_k: int = 32,
) -> tuple[torch.Tensor, torch.Tensor]:
    """R'_n and s' of one image (section 3.2 of the paper; its exact rule is not published, so it is explicit here).

    Args:
        boxes: (R, 4) XYXY.
        region_scores: (R, C) per-class scores of the teacher.
        objectness: (R,) the proposals' scores.
        weight: s' is ``teacher`` (the largest class score of the region), ``proposal`` (objectness) or ``uniform``.
        normalize: divide s' by its largest value in the image.
        nms_thresh: IoU above which the region of smaller s' is dropped; 1 drops none.
        top_k: regions kept, by s'; 0 keeps all.

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
        raise ValueError(f"weight is one of {', '.join(REGION_WEIGHTS)}, not {weight!r}")
    if nms_thresh < 1:
        keep = nms(boxes, weights, nms_thresh)
    else:
        keep = weights.argsort(descending=True, stable=True)
    if top_k > 0:
        keep = keep[:top_k]
    weights = weights[keep]
    if normalize and len(weights) > 0:
        weights = weights / weights[0].clamp(min=torch.finfo(weights.dtype).tiny)
    return keep, weights
