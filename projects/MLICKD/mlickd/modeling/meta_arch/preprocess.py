"""What teacher and student share before the backbone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.structures import ImageList
from torch import nn

__all__ = ["ImageModel"]


class ImageModel(nn.Module):
    """A model with a backbone that takes normalised images."""

    def __init__(self, backbone: nn.Module, pixel_mean: Sequence[float], pixel_std: Sequence[float], frozen: bool):
        """
        Args:
            backbone: of Detectron2's registry.
            pixel_mean, pixel_std: of each channel, in units of 0 to 255.
            frozen: the backbone gets no gradients and stays in evaluation mode.
        """
        super().__init__()
        self.backbone = backbone
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean, dtype=torch.float32)[:, None, None], False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std, dtype=torch.float32)[:, None, None], False)
        self.backbone_frozen = frozen
        if frozen:
            self.backbone.requires_grad_(False)

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
        """Normalise (3, H, W) images of 0 to 255 and put them into one batch."""
        normalised = [(image.to(self.device, torch.float32) - self.pixel_mean) / self.pixel_std for image in images]
        return ImageList.from_tensors(normalised, self.backbone.size_divisibility)
