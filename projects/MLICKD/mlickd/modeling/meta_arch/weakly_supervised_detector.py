"""The teacher: a detector trained from image labels only."""

import hashlib
from collections.abc import Sequence
from typing import ClassVar

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_roi_heads
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Instances
from torch import nn

from mlickd.errors import InputError
from mlickd.modeling.roi_heads import RegionPredictions

from .image_model import ImageModel


@META_ARCH_REGISTRY.register()
class WeaklySupervisedDetector(ImageModel):
    """A backbone and weakly supervised RoI heads over precomputed proposals (T-WDet of the paper)."""

    is_detector: ClassVar[bool] = True

    @configurable
    def __init__(self, *, roi_heads: nn.Module, feature_cache_mib: int = 0, **image_model):
        """
        Args:
            roi_heads: RoI heads such as :class:`mlickd.modeling.WSDDNHeads`.
            feature_cache_mib: MiB for the maps that a frozen backbone computes in training.
            **image_model: arguments of :class:`ImageModel`.
        """
        super().__init__(**image_model)
        if not hasattr(roi_heads, "predict_regions"):  # heads of Detectron2, which need boxes
            name = type(roi_heads).__name__
            raise InputError(f"MODEL.ROI_HEADS.NAME {name} is not weakly supervised; use WSDDNHeads or OICRHeads")
        self.roi_heads = roi_heads
        self._cache_bytes_left = feature_cache_mib << 20 if self.backbone_frozen else 0
        self._uses_cache = self._cache_bytes_left > 0
        self._feature_cache: dict[bytes, torch.Tensor] = {}

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Return the arguments of :class:`ImageModel`, and from ``MODEL.{ROI_HEADS,BACKBONE.FEATURE_CACHE_MIB}``."""
        shared = super().from_config(cfg)
        roi_heads = build_roi_heads(cfg, shared["backbone"].output_shape())
        return {**shared, "roi_heads": roi_heads, "feature_cache_mib": cfg.MODEL.BACKBONE.FEATURE_CACHE_MIB}

    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor] | list[dict]:
        """Compute the losses in training, and the scores and detections at inference.

        Args:
            batched_inputs: samples with ``image`` (3, H, W), 0 to 255; ``proposals``, Instances with
                ``proposal_boxes`` in pixels of ``image`` and ``objectness``; in training ``labels``; at inference
                optionally ``height`` and ``width`` of the original image, to which detections are scaled.

        Returns:
            In training the losses by name. At inference, for each sample, ``image_scores`` (C,) in [0, 1] and
            ``instances`` with ``pred_boxes``, ``scores`` and ``pred_classes``.
        """
        if not self.training:
            scores = self.view_scores(batched_inputs)
            return [self.build_output(sample, s) for sample, s in zip(batched_inputs, scores, strict=True)]
        pixels = [sample["image"] for sample in batched_inputs]
        images = self.preprocess(pixels)
        is_padded = any(size != images.tensor.shape[-2:] for size in images.image_sizes)
        if self._uses_cache and not is_padded:
            features = self._cached_features(images.tensor, pixels)
        else:
            features = self.backbone(images.tensor)
        proposals = [sample["proposals"].to(self.device) for sample in batched_inputs]
        targets = self.label_targets(batched_inputs)
        return self.roi_heads.losses(self.roi_heads.predict_regions(features, proposals), proposals, targets)

    def _cached_features(self, images: torch.Tensor, pixels: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the map of the heads for normalized ``images`` (N, 3, H, W), and remember it by the pixels.

        Each image is computed separately. Its map does not depend on the other images of the batch, so a resumed run,
        which remembers nothing, computes the maps of the uninterrupted run.
        """
        name, rows = self.roi_heads.in_feature, []
        for image, content in zip(images.split(1), pixels, strict=True):
            key = hashlib.blake2b(content.cpu().numpy().tobytes(), digest_size=16).digest()
            feature_map = self._feature_cache.get(key)
            if feature_map is None:
                feature_map = self.backbone(image)[name]
                if self._cache_bytes_left >= feature_map.nbytes:
                    self._cache_bytes_left -= feature_map.nbytes
                    self._feature_cache[key] = feature_map
            rows.append(feature_map)
        return {name: torch.cat(rows)}

    def predict_regions(
        self, images: Sequence[torch.Tensor], proposals: Sequence[Instances]
    ) -> tuple[dict[str, torch.Tensor], RegionPredictions]:
        """Return the outputs that a student can learn from: the backbone's maps by name, and the heads' outputs.

        Args:
            images: (3, H, W) each, 0 to 255.
            proposals: one Instances per image, in pixels of the image.
        """
        features = self.backbone(self.preprocess(images).tensor)
        return features, self.roi_heads.predict_regions(features, [p.to(self.device) for p in proposals])

    def view_scores(self, batched_inputs: list[dict]) -> list[dict[str, torch.Tensor]]:
        """Return ``image_scores`` (C,) and ``region_scores`` (R, C) of each sample, to be averaged over views.

        For the samples, see :meth:`forward`. The region scores determine the detections.
        """
        proposals = [sample["proposals"] for sample in batched_inputs]
        _, predictions = self.predict_regions([sample["image"] for sample in batched_inputs], proposals)
        scores = zip(predictions.image_scores(), self.roi_heads.detection_scores(predictions), strict=True)
        return [
            {"image_scores": image_scores, "region_scores": region_scores} for image_scores, region_scores in scores
        ]

    def build_output(self, sample: dict, scores: dict[str, torch.Tensor]) -> dict:
        """Return the output of :meth:`forward` at inference for one sample, given its :meth:`view_scores`."""
        boxes = sample["proposals"].proposal_boxes.to(self.device)
        height, width = sample["image"].shape[-2:]
        instances = self.roi_heads.detect(boxes, scores["region_scores"], (height, width))
        instances = detector_postprocess(instances, sample.get("height", height), sample.get("width", width))
        return {"image_scores": scores["image_scores"], "instances": instances}
