"""Random changes of training images: crops and colors."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

__all__ = ["ColorJitter", "ColorShift", "RandomCrop"]


class RandomCrop(NamedTuple):
    """A distribution of crops, as fractions of an image. A crop is drawn before the image is read.

    Attributes:
        area: smallest and largest fraction of the image's area.
        aspect: smallest and largest ratio of width to height, relative to the image's own ratio; narrowed if the crop
            would not fit into the image.
    """

    area: tuple[float, float] = (0.25, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)

    def draw(self, generator: np.random.Generator) -> tuple[float, float, float, float]:
        """Return x0, y0, x1, y1 with a uniform area, a log-uniform aspect and a uniform position."""
        area = generator.uniform(*self.area)
        aspect = math.exp(generator.uniform(*np.log(self.aspect)))
        aspect = min(max(aspect, area), 1 / area)
        width, height = min(math.sqrt(area * aspect), 1), min(math.sqrt(area / aspect), 1)
        x0, y0 = generator.random(2) * (1 - width, 1 - height)
        return float(x0), float(y0), min(float(x0 + width), 1.0), min(float(y0 + height), 1.0)


class ColorShift(NamedTuple):
    """Factors on the colors of an image, applied in this order; 1 changes nothing.

    Attributes:
        brightness: factor on every value.
        contrast: factor on the distance of every value to the mean gray of the image.
        saturation: factor on the distance of every value to the gray of its pixel.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0

    def apply(self, image: torch.Tensor, image_format: str = "RGB") -> torch.Tensor:
        """Return a (3, H, W) uint8 image in ``RGB`` or ``BGR`` with changed colors."""
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
    """Largest distance of each factor of a :class:`ColorShift` from 1; 0 leaves a property unchanged."""

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def draw(self, generator: np.random.Generator) -> ColorShift:
        """Return factors from uniform distributions."""
        return ColorShift(*(float(1 + strength * generator.uniform(-1, 1)) for strength in self))
