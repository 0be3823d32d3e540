"""The base class of teacher and student, and test-time augmentation for both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_backbone
from detectron2.structures import Boxes, ImageList, Instances
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mlickd.data.records import label_targets


class ImageModel(nn.Module):
    """A model with C classes and a backbone that takes normalized images.

    Attributes:
        is_detector: whether the model takes proposals and returns ``instances`` as well as ``image_scores``.
        student_architecture: for a model that distills, the name of its student in ``META_ARCH_REGISTRY``; empty for
            other models.
    """

    is_detector: ClassVar[bool] = False
    student_architecture: ClassVar[str] = ""

    def __init__(
        self,
        *,
        backbone: nn.Module,
        num_classes: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        backbone_frozen: bool = False,
        freeze_norm: bool = False,
    ):
        """
        Args:
            backbone: module from Detectron2's ``BACKBONE_REGISTRY``.
            num_classes: C.
            pixel_mean, pixel_std: one value per channel, for pixels from 0 to 255.
            backbone_frozen: whether the backbone gets no gradients and stays in evaluation mode.
            freeze_norm: whether the batch normalization of the backbone keeps its statistics and affine parameters.
        """
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32)[:, None, None], persistent=False)
        self.backbone_frozen = backbone_frozen
        if backbone_frozen:
            self.backbone.requires_grad_(False)
        # In evaluation mode, because timm's frozen layers read the data twice, which takes a third of the time.
        self._frozen_norms = [m for m in backbone.modules() if isinstance(m, _BatchNorm)] if freeze_norm else []
        for norm in self._frozen_norms:
            norm.requires_grad_(False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Return arguments from ``MODEL.BACKBONE``, ``MODEL.NUM_CLASSES`` and ``MODEL.PIXEL_{MEAN,STD}``."""
        return {
            "backbone": build_backbone(cfg),
            "num_classes": cfg.MODEL.NUM_CLASSES,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "backbone_frozen": cfg.MODEL.BACKBONE.FROZEN,
            "freeze_norm": cfg.MODEL.BACKBONE.FREEZE_NORM,
        }

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.pixel_mean.device

    def train(self, mode: bool = True) -> ImageModel:
        """Set the mode as in PyTorch, but keep a frozen backbone and frozen normalization in evaluation mode."""
        super().train(mode)
        for module in [self.backbone] if self.backbone_frozen else self._frozen_norms:
            module.eval()
        return self

    def preprocess(self, images: Sequence[torch.Tensor]) -> ImageList:
        """Normalize (3, H, W) images with pixels from 0 to 255, and stack them into one batch.

        Images are padded with zeros (the mean color) to the largest size, rounded up to a multiple of the backbone's
        ``size_divisibility``.
        """
        if len({image.shape for image in images}) > 1:
            normalized = [self.normalize(image) for image in images]
            return ImageList.from_tensors(normalized, self.backbone.size_divisibility)
        # Images of one size are copied to the device as bytes and normalized together, which is faster.
        batch = ImageList.from_tensors([self.normalize(torch.stack(list(images)))], self.backbone.size_divisibility)
        height, width = images[0].shape[-2:]
        return ImageList(batch.tensor[0], [(height, width)] * len(images))

    def label_targets(self, batched_inputs: Sequence[dict]) -> torch.Tensor:
        """Return the image labels (N, C), float32: 1 for a present class, 0 for an absent class, -1 for an ignored one.

        Args:
            batched_inputs: samples with ``labels`` and optionally ``ignored_labels``, both lists of class indices.
        """
        return torch.from_numpy(label_targets(batched_inputs, self.num_classes)).to(self.device, torch.float32)

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Convert (..., 3, H, W) pixels from 0 to 255 into the float32 input of the backbone, on the model's device."""
        return (pixels.to(self.device) - self.pixel_mean).float().div_(self.pixel_std)


class ImageModelWithTTA(nn.Module):
    """A trained model whose outputs are averaged over several views of each image.

    Detectron2's ``GeneralizedRCNNWithTTA`` merges boxes and does not support proposals. Here, every view has the same
    regions, so their scores are averaged region by region, and detections are chosen from the averages. WSDDN (Bilen &
    Vedaldi 2016) and OICR (Tang et al. 2017) do this over five scales and their mirror images. For a classifier,
    probabilities are averaged. Views are processed one after another, so the largest view determines the memory.
    """

    def __init__(self, model: ImageModel, *, flip: bool = True):
        """
        Args:
            model: a teacher, or a student without distillation.
            flip: whether to add the mirror image of each view.
        """
        super().__init__()
        self.model = model
        self.flip = flip
        self.train(model.training)

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        """Return the output of the model at inference for each sample, averaged over its views.

        Args:
            batched_inputs: samples with ``views`` from :func:`mlickd.data.mapper.map_at_sizes`, and optionally
                ``height`` and ``width`` of the original image. All samples have the same number of views, and all views
                of a sample have the same regions in the same order.
        """
        views = [list(views) for views in zip(*(sample["views"] for sample in batched_inputs), strict=True)]
        if self.flip:
            views += [[mirrored_view(sample) for sample in samples] for samples in views]
        scores = [self.model.view_scores(samples) for samples in views]
        # Detections are scaled to the original image, so the boxes of any view can be used.
        return [
            self.model.build_output(
                {**sample, **sample["views"][0]},
                {name: sum(view[i][name] for view in scores) / len(scores) for name in scores[0][i]},
            )
            for i, sample in enumerate(batched_inputs)
        ]


def mirrored_view(view: dict) -> dict:
    """Return a view with its ``image`` (3, H, W), and its ``proposals`` if it has them, flipped horizontally."""
    mirrored = {**view, "image": view["image"].flip(-1)}
    if "proposals" in view:
        proposals = view["proposals"]
        x0, y0, x1, y1 = proposals.proposal_boxes.tensor.unbind(dim=1)
        width = proposals.image_size[1]
        boxes = Boxes(torch.stack([width - x1, y0, width - x0, y1], dim=1))
        mirrored["proposals"] = Instances(proposals.image_size, proposal_boxes=boxes, objectness=proposals.objectness)
    return mirrored
