"""Random parts of an image."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

__all__ = ["RandomCrop"]


class RandomCrop(NamedTuple):
    """Crops as fractions of an image, drawn before the image is read.

    Attributes:
        area: smallest and largest part of the image's area.
        aspect: smallest and largest width to height, in units of the image's own; narrowed where the crop would not
            fit into the image.
    """

    area: tuple[float, float] = (0.25, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)

    def draw(self, generator: np.random.Generator) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1: the area uniform, the aspect uniform in its logarithm, the place uniform."""
        area = generator.uniform(*self.area)
        aspect = math.exp(generator.uniform(*np.log(self.aspect)))
        aspect = min(max(aspect, area), 1 / area)
        width, height = min(math.sqrt(area * aspect), 1), min(math.sqrt(area / aspect), 1)
        x0, y0 = generator.random(2) * (1 - width, 1 - height)
        return float(x0), float(y0), min(float(x0 + width), 1.0), min(float(y0 + height), 1.0)
