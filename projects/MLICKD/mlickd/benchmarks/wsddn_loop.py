"""WSDDN as one would write it first: image after image. What ours is measured against, and checked against."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torchvision import ops

from mlickd.modeling import WeaklySupervisedDetector

__all__ = ["PerImageWSDDN"]


class PerImageWSDDN(nn.Module):
    """The mathematics of a `WeaklySupervisedDetector` in training, on its own layers, one image at a time."""

    def __init__(self, model: WeaklySupervisedDetector, pooler_type: str, resolution: int, sampling_ratio: int):
        """
        Args:
            model: whose layers are used.
            pooler_type, resolution, sampling_ratio: of ``MODEL.ROI_BOX_HEAD``.
        """
        super().__init__()
        self.model = model
        self.pooler_type = pooler_type
        self.resolution = resolution
        self.sampling_ratio = sampling_ratio

    def forward(self, sample: dict) -> torch.Tensor:
        """The loss of one image: cross-entropy of its scores, summed over the classes.

        Args:
            sample: with ``image`` (3, H, W), ``proposals`` and ``labels``.
        """
        heads = self.model.roi_heads
        pixels = (sample["image"].float() - self.model.pixel_mean) / self.model.pixel_std
        feature_map = self.model.backbone(pixels[None])[heads.in_feature]
        boxes = sample["proposals"].proposal_boxes.tensor
        scale = 1 / self.model.backbone.output_shape()[heads.in_feature].stride
        if self.pooler_type == "ROIPool":
            pooled = ops.roi_pool(feature_map, [boxes], self.resolution, scale)
        else:
            aligned = self.pooler_type == "ROIAlignV2"
            pooled = ops.roi_align(feature_map, [boxes], self.resolution, scale, self.sampling_ratio, aligned)
        factors = sample["proposals"].objectness
        if heads.score_weighting == "affine":
            factors = 1 + heads.score_slope * factors
        if heads.score_weighting != "none":
            pooled = pooled * factors[:, None, None, None]
        vectors = heads.box_head(pooled)
        classes = torch.softmax(heads.class_stream(vectors), dim=1)
        regions = torch.softmax(heads.detection_stream(vectors), dim=0)
        scores = (classes * regions).sum(dim=0).clamp(1e-4, 1 - 1e-4)
        labels = torch.zeros_like(scores)
        labels[sample["labels"]] = 1
        return nn.functional.binary_cross_entropy(scores, labels, reduction="sum")

    def gradients(self, samples: Sequence[dict], *, backward_each: bool) -> None:
        """Add the gradients of the batch's mean loss to the parameters.

        Args:
            samples: of the batch.
            backward_each: go back after each image, which keeps one image's maps in memory at a time, instead of
                once for all.
        """
        losses = (self(sample) / len(samples) for sample in samples)
        if not backward_each:
            sum(losses).backward()
            return
        for loss in losses:
            loss.backward()
