"""What a teacher hands to a student, as data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torchvision.ops import nms

__all__ = ["REGION_WEIGHTS", "TeacherKnowledge", "known_image_scores", "normalized_weights", "select_regions"]

# What s' of a region can be, see `select_regions`.
REGION_WEIGHTS = ("teacher", "proposal", "uniform")


@dataclass
class TeacherKnowledge:
    """A teacher's knowledge of one view of one image.

    Attributes:
        image_scores: (C,) float32, the teacher's softened image scores p'^T, probabilities. None where no region is in
            view: then the teacher has nothing to say of it but its maps.
        boxes: (R, 4) float32, the selected regions R'_n, XYXY in pixels of the *student's* view.
        weights: (R,) float32, s' of each region.
        features: the teacher's features of the regions by its layer's name: (R, D, P, P) pooled maps, or (R, D)
            vectors of its box head, float32 or, from the cache, float16. Not yet weighted by s'.
        map_sizes: height and width of the teacher's feature map by layer, to which Psi resizes the student's.
        proposal_weights: (R,) float32, the factors that the teacher puts on pooled features before its box head;
            needed where features are compared behind it.
        region_scores: (R, C) float32, the teacher's scores of the selected regions.
        maps: whole maps of the teacher, of just this view, by kind (see ``MAP_KINDS``) and layer: (D, H, W) float32 or,
            from the cache, float16.
    """

    image_scores: torch.Tensor | None
    boxes: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    features: dict[str, torch.Tensor] = field(default_factory=dict)
    map_sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    proposal_weights: torch.Tensor | None = None
    region_scores: torch.Tensor | None = None
    maps: dict[tuple[str, str], torch.Tensor] = field(default_factory=dict)

    def _tensors(self) -> list[torch.Tensor]:
        fields = (self.image_scores, self.boxes, self.weights, self.proposal_weights, self.region_scores)
        return [*(t for t in fields if t is not None), *self.features.values(), *self.maps.values()]

    @property
    def num_bytes(self) -> int:
        """Memory of all arrays."""
        return sum(tensor.nbytes for tensor in self._tensors())

    def to(self, device: torch.device | str) -> TeacherKnowledge:
        """The same knowledge on another device; itself where it is there already."""
        if all(tensor.device == torch.device(device) for tensor in self._tensors()):
            return self

        return self.map(lambda tensor: tensor.to(device))

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> TeacherKnowledge:
        """The same knowledge with ``function`` applied to every array."""

        def mapped(tensor: torch.Tensor | None) -> torch.Tensor | None:
            return None if tensor is None else function(tensor)

        return replace(
            self,
            image_scores=mapped(self.image_scores),
            boxes=mapped(self.boxes),
            weights=mapped(self.weights),
            features={layer: mapped(feature) for layer, feature in self.features.items()},
            proposal_weights=mapped(self.proposal_weights),
            region_scores=mapped(self.region_scores),
            maps={key: mapped(of_view) for key, of_view in self.maps.items()},
        )


def known_image_scores(
    knowledge: Sequence[TeacherKnowledge], logits: torch.Tensor
) -> tuple[list[int], torch.Tensor | None]:
    """The teacher's image scores of a batch.

    Args:
        knowledge: of N images.
        logits: (N, C), of the student.

    Returns:
        Indices of the K images of which the teacher knows something, and their (K, C) image scores in the type of the
        logits; sums of products of softmaxes, which pass 1 by rounding, cut to [0, 1]. None where there are no such
        images.
    """
    known = [i for i, k in enumerate(knowledge) if k.image_scores is not None]
    if not known:
        return known, None
    return known, torch.stack([knowledge[i].image_scores for i in known]).to(logits.dtype).clamp(0, 1)


def normalized_weights(weights: torch.Tensor) -> torch.Tensor:
    """s' of the regions of one image divided by the largest of them."""
    return weights / weights.max().clamp(min=torch.finfo(weights.dtype).tiny) if len(weights) > 0 else weights


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
    return keep, normalized_weights(weights) if normalize else weights
