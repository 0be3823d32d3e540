"""Random crops of training images."""

import math
from typing import NamedTuple

import numpy as np


class RandomCrop(NamedTuple):
    """A distribution of crops in fractions of an image, so that a crop can be drawn before the image is read.

    Attributes:
        area: smallest and largest fraction of the image's area.
        aspect: smallest and largest ratio of width to height, divided by the image's ratio; narrowed if the crop would
            not fit into the image.
    """

    area: tuple[float, float] = (0.25, 1.0)
    aspect: tuple[float, float] = (0.75, 1.3333)

    def draw(self, generator: np.random.Generator) -> tuple[float, float, float, float]:
        """Return x0, y0, x1, y1 with a uniform area, a log-uniform aspect and a uniform position."""
        area = generator.uniform(*self.area)
        aspect = math.exp(generator.uniform(*np.log(self.aspect)))
        aspect = min(max(aspect, area), 1 / area)
        width, height = min(math.sqrt(area * aspect), 1), min(math.sqrt(area / aspect), 1)
        x0, y0 = generator.random(2) * (1 - width, 1 - height)
        return float(x0), float(y0), min(float(x0 + width), 1.0), min(float(y0 + height), 1.0)
