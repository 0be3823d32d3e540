"""Random crops and color changes of training images."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F


class RandomCrop(NamedTuple):
    """A distribution of crops in fractions of an image, so that a crop can be drawn before the image is read.

    Attributes:
        area: smallest and largest fraction of the image's area.
        aspect: smallest and largest ratio of width to height, divided by the image's ratio; narrowed if the crop would
            not fit into the image.
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
    """Factors that change the colors of an image, applied in this order; 1 changes nothing.

    Attributes:
        brightness: factor of every value.
        contrast: factor of the difference between every value and the mean gray of the image.
        saturation: factor of the difference between every value and the gray of its pixel.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0

    def apply(self, image: torch.Tensor, image_format: str = "RGB") -> torch.Tensor:
        """Return a (3, H, W) uint8 image in ``RGB`` or ``BGR`` with changed colors."""
        if image_format == "BGR":
            return self.apply(image.flip(0)).flip(0)
        for adjust, factor in zip((F.adjust_brightness, F.adjust_contrast, F.adjust_saturation), self, strict=True):
            if factor != 1:
                image = adjust(image, factor)
        return image


class ColorJitter(NamedTuple):
    """Strengths x as in torchvision's ``ColorJitter``: factors of :class:`ColorShift` are uniform in [1 - x, 1 + x]."""

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def draw(self, generator: np.random.Generator) -> ColorShift:
        """Return a shift whose factors have uniform distributions."""
        return ColorShift(*(float(1 + strength * generator.uniform(-1, 1)) for strength in self))
