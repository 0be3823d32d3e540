"""Random changes of color: one more way to see the same thing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

__all__ = ["ColorJitter", "ColorShift"]


class ColorShift(NamedTuple):
    """Factors on the colors of an image, applied in this order; 1 changes nothing.

    Attributes:
        brightness: on every value.
        contrast: on the distance to the mean gray of the image.
        saturation: on the distance to each pixel's own gray.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0

    def apply(self, image: torch.Tensor, image_format: str = "RGB") -> torch.Tensor:
        """(3, H, W) uint8 in ``RGB`` or ``BGR`` to the same in other colors."""
        if image_format == "BGR":
            return self.apply(image.flip(0)).flip(0)
        if self.brightness != 1:
            image = F.adjust_brightness(image, self.brightness)
        if self.contrast != 1:
            image = F.adjust_contrast(image, self.contrast)
        if self.saturation != 1:
            image = F.adjust_saturation(image, self.saturation)
        return image


class ColorJitter(NamedTuple):
    """How far the factors of a :class:`ColorShift` may be from 1; 0 leaves a property alone."""

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def draw(self, generator: np.random.Generator) -> ColorShift:
        """Factors from uniform distributions."""
        return ColorShift(*(float(1 + strength * generator.uniform(-1, 1)) for strength in self))
