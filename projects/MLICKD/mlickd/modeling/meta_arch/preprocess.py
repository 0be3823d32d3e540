"""What teacher and student share before the backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_backbone
from detectron2.structures import ImageList
from torch import nn

__all__ = ["ImageModel"]


class ImageModel(nn.Module):
    """A model with a backbone that takes normalized images, and C classes.

    Attributes:
        is_detector: the model takes proposals and returns ``instances`` as well as ``image_scores``.
        student_architecture: name in ``META_ARCH_REGISTRY`` of the student that a distillation trains; empty if the
            model is not distilled.
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
    ):
        """
        Args:
            backbone: of Detectron2's registry.
            num_classes: C.
            pixel_mean, pixel_std: of each channel, in units of 0 to 255.
            backbone_frozen: the backbone gets no gradients and stays in evaluation mode.
        """
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean, dtype=torch.float32)[:, None, None], False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std, dtype=torch.float32)[:, None, None], False)
        self.backbone_frozen = backbone_frozen
        if backbone_frozen:
            self.backbone.requires_grad_(False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """From ``MODEL.BACKBONE``, ``MODEL.NUM_CLASSES`` and ``MODEL.PIXEL_{MEAN,STD}``."""
        return {
            "backbone": build_backbone(cfg),
            "num_classes": cfg.MODEL.NUM_CLASSES,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "backbone_frozen": cfg.MODEL.BACKBONE.FROZEN,
        }

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.pixel_mean.device

    def train(self, mode: bool = True) -> ImageModel:
        """As in PyTorch, but a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.backbone_frozen:
            self.backbone.eval()
        return self

    def preprocess(self, images: Sequence[torch.Tensor]) -> ImageList:
        """Normalize (3, H, W) images of 0 to 255 and put them into one batch.

        They are padded with zeros, that is with the mean color, to the size of the largest and to a multiple of the
        backbone's ``size_divisibility``.
        """
        if len({image.shape for image in images}) > 1:
            normalized = [self.normalize(image) for image in images]
            return ImageList.from_tensors(normalized, self.backbone.size_divisibility)
        # Bytes travel four times as fast as floats, and once is faster than one by one.
        batch = ImageList.from_tensors([self.normalize(torch.stack(list(images)))], self.backbone.size_divisibility)
        height, width = images[0].shape[-2:]
        return ImageList(batch.tensor[0], [(height, width)] * len(images))

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Images (..., 3, H, W) of 0 to 255 as the backbone takes them: float32, on the model's device."""
        return (pixels.to(self.device) - self.pixel_mean).float().div_(self.pixel_std)
