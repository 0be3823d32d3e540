"""The online instance classifier refinement of OICR (Tang et al. 2017) on top of WSDDN."""

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.structures import Instances
from torch import nn
from torch.nn import functional as F
from torchvision.ops import box_iou

from mlickd.errors import InputError

from .wsddn import RegionPredictions, WSDDNHeads

# A region gets the class of a pseudo ground-truth box if their IoU is at least this value (Tang et al. 2017).
IOU_THRESHOLD = 0.5


def oicr_pseudo_labels(
    boxes: torch.Tensor, scores: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the targets of one refinement from the scores of the previous stage (section 3.3 of Tang et al. 2017).

    For each class in the image, the region with the highest score is a pseudo ground-truth box. Each region gets the
    class of the box with the largest IoU, or background below ``IOU_THRESHOLD``. Its weight is the score of that box,
    so unreliable boxes early in training have little effect.

    A class with an ignored label may also be in the image. A region has the weight zero if its IoU with the best region
    of this class reaches the threshold, and is larger than with any box.

    Args:
        boxes: (R, 4) XYXY.
        scores: (R, C) scores of the previous stage.
        target: (C,) labels of the image, 1, 0 or -1 (ignored).

    Returns:
        (R,) labels, 0 to C - 1 or C for the background, and (R,) weights, all zero if no class is positive.
    """
    num_classes = scores.shape[1]
    classes = (target == 1).nonzero().flatten()
    if len(classes) == 0:
        return torch.full((len(boxes),), num_classes, device=boxes.device), scores.new_zeros(len(boxes))
    best, seeds = scores[:, classes].max(dim=0)
    overlap, nearest = box_iou(boxes, boxes[seeds]).max(dim=1)
    labels = torch.where(overlap >= IOU_THRESHOLD, classes[nearest], num_classes)
    weights = best[nearest]
    ignored = scores[:, target == -1]
    if ignored.shape[1] > 0:
        doubtful = box_iou(boxes, boxes[ignored.argmax(dim=0)]).amax(dim=1)
        weights = weights.masked_fill((doubtful >= IOU_THRESHOLD) & (doubtful > overlap), 0)
    return labels, weights


def oicr_refinement_loss(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Compute ``-1/R * sum_r w_r log softmax(logits_r)[label_r]`` for one image (equation 4 of Tang et al. 2017).

    Args:
        logits: (R, C + 1), the background last.
        labels, weights: outputs of :func:`oicr_pseudo_labels`.
    """
    return (weights * F.cross_entropy(logits, labels, reduction="none")).mean()


@ROI_HEADS_REGISTRY.register()
class OICRHeads(WSDDNHeads):
    """WSDDN with K refinements: classifiers of regions that learn from the best regions of the previous stage.

    Image scores come from WSDDN. Detections and the regions for a student are chosen by the mean of the refined scores,
    which favor whole objects. The scores of WSDDN favor the most distinctive part of an object.
    """

    # The refined scores of a region do not depend on the other regions.
    scores_from_streams = False

    @configurable
    def __init__(self, *, num_refinements: int = 3, **wsddn):
        """
        Args:
            num_refinements: K.
            wsddn: arguments of :class:`WSDDNHeads`.
        """
        super().__init__(**wsddn)
        if num_refinements < 1:
            raise InputError(f"MODEL.OICR.NUM_REFINEMENTS {num_refinements}: must be at least 1")
        sizes = self.class_stream.in_features, self.class_stream.out_features + 1
        self.refinement_streams = nn.ModuleList(nn.Linear(*sizes) for _ in range(num_refinements))
        for stream in self.refinement_streams:
            nn.init.normal_(stream.weight, std=wsddn.get("init_std", 0.01))
            nn.init.zeros_(stream.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Return the arguments of :class:`WSDDNHeads`, and from ``MODEL.OICR``."""
        return super().from_config(cfg, input_shape) | {"num_refinements": cfg.MODEL.OICR.NUM_REFINEMENTS}

    def refinement_logits(self, predictions: RegionPredictions) -> list[torch.Tensor]:
        """Return the logits (M, C + 1) of each refinement, float32, the background last."""
        return [stream(predictions.embeddings).float() for stream in self.refinement_streams]

    def detection_scores(self, predictions: RegionPredictions) -> list[torch.Tensor]:
        """Return the probabilities (R, C) of each image's regions, averaged over the refinements."""
        refined = torch.stack([logits.softmax(dim=1)[:, :-1] for logits in self.refinement_logits(predictions)])
        return list(refined.mean(dim=0).split(predictions.counts))

    def losses(
        self, predictions: RegionPredictions, proposals: list[Instances], targets: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the loss of WSDDN, and ``loss_refinement_<k>`` of each refinement, averaged over the images."""
        losses = super().losses(predictions, proposals, targets)
        previous = predictions.scores()
        for number, logits in enumerate(self.refinement_logits(predictions), start=1):
            split = logits.split(predictions.counts)
            total = targets.new_zeros(())
            for image_logits, regions, scores, target in zip(split, proposals, previous, targets, strict=True):
                boxes = regions.proposal_boxes.tensor
                labels, weights = oicr_pseudo_labels(boxes, scores.detach(), target)
                total = total + oicr_refinement_loss(image_logits, labels, weights)
            losses[f"loss_refinement_{number}"] = total / len(targets)
            previous = [image_logits.softmax(dim=1)[:, :-1] for image_logits in split]
        return losses
