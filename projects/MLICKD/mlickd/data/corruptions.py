"""Corruptions that occur in real photos, applied to test images.

The functions corrupt the input of a model, not the file. A strength then means the same for photos of 300 and of 5,000
pixels, and all models of one input size see the same bytes. Training images are never corrupted.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.utils.registry import Registry
from PIL import Image, ImageFilter

from mlickd.errors import InputError

__all__ = ["CORRUPTION_REGISTRY", "STRENGTHS", "Corruption"]

STRENGTHS = (1, 2, 3)

CORRUPTION_REGISTRY = Registry("CORRUPTION")
CORRUPTION_REGISTRY.__doc__ = """
Corruptions: functions ``(image, strength, generator)`` that return a new image of the same shape. ``image`` is
(H, W, 3) uint8 RGB with at least one pixel, ``strength`` is an element of STRENGTHS, and ``generator`` is a NumPy
generator for all random draws.
"""


@dataclass(frozen=True)
class Corruption:
    """A corruption: a ``name`` in CORRUPTION_REGISTRY and a ``strength`` in STRENGTHS.

    The random draws depend only on the seed, the image id, the name and the strength. They do not depend on the order
    of the images or on the number of loader workers.
    """

    name: str
    strength: int
    seed: int = 0

    @classmethod
    def parse(cls, text: str, seed: int = 0, field: str = "TEST.CORRUPTION") -> Corruption:
        """Return the corruption named by ``NAME:STRENGTH``, such as ``noise:2``.

        Raises:
            InputError: the form, the name or the strength is wrong; the message names the ``field``.
        """
        name, _, strength = str(text).partition(":")
        if name not in CORRUPTION_REGISTRY or strength not in map(str, STRENGTHS):
            raise InputError(
                f"{field} {text!r}: write NAME:STRENGTH, such as noise:2; names are "
                f"{', '.join(dict(CORRUPTION_REGISTRY))}, strengths {', '.join(map(str, STRENGTHS))}"
            )
        return cls(name, int(strength), seed)

    def __str__(self) -> str:
        return f"{self.name}:{self.strength}"

    def apply(self, view: torch.Tensor, image_id: str | int, image_format: str = "RGB") -> torch.Tensor:
        """Return a corrupted copy of a (3, H, W) uint8 view; ``RGB`` and ``BGR`` views get the same corruption."""
        if image_format == "BGR":
            return self.apply(view.flip(0), image_id).flip(0)
        digest = hashlib.sha256(f"{self.seed}/{image_id}/{self}".encode()).digest()
        generator = np.random.default_rng(int.from_bytes(digest, "big"))
        image = np.ascontiguousarray(view.permute(1, 2, 0).numpy())
        corrupted = CORRUPTION_REGISTRY.get(self.name)(image, self.strength, generator)
        return torch.from_numpy(corrupted).permute(2, 0, 1).contiguous()


@CORRUPTION_REGISTRY.register()
def noise(image: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise of standard deviation 20, 40 or 60 (of 255) to every value."""
    return _to_bytes(image + (20, 40, 60)[strength - 1] * generator.standard_normal(image.shape))


@CORRUPTION_REGISTRY.register()
def blur(image: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    """Blur with a Gaussian of standard deviation 0.75, 1.5 or 3 percent of the shorter side."""
    radius = (0.0075, 0.015, 0.03)[strength - 1] * min(image.shape[:2])
    return np.array(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


@CORRUPTION_REGISTRY.register()
def jpeg(image: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    """Compress as JPEG of quality 25, 12 or 6, with colors at half the resolution."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=(25, 12, 6)[strength - 1], subsampling="4:2:0")
    with Image.open(file) as compressed:
        return np.array(compressed)


@CORRUPTION_REGISTRY.register()
def darker(image: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    """Multiply every value by 0.6, 0.4 or 0.2."""
    return _to_bytes((0.6, 0.4, 0.2)[strength - 1] * image)


@CORRUPTION_REGISTRY.register()
def brighter(image: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    """Multiply every value by 1.3, 1.7 or 2.5, and clip at white."""
    return _to_bytes((1.3, 1.7, 2.5)[strength - 1] * image)


@CORRUPTION_REGISTRY.register()
def occlusion(image: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    """Hide 15, 30 or 50 percent of the image behind gray rectangles, each with 2 to 6 percent of its area."""
    fraction = (0.15, 0.3, 0.5)[strength - 1]
    height, width = image.shape[:2]
    hidden = np.zeros((height, width), dtype=bool)
    while hidden.mean() < fraction:
        area, aspect = generator.uniform(0.02, 0.06), generator.uniform(-np.log(2), np.log(2))
        sides = np.sqrt(area) * np.exp([aspect / 2, -aspect / 2])
        rows, columns = np.clip(np.round(sides * (height, width)), 1, (height, width)).astype(int)
        top, left = generator.integers(height - rows + 1), generator.integers(width - columns + 1)
        hidden[top : top + rows, left : left + columns] = True
    return np.where(hidden[..., None], np.uint8(127), image)


@CORRUPTION_REGISTRY.register()
def small_scale(image: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    """Reduce each side to a half, a quarter or an eighth, and enlarge the image again."""
    factor = (2, 4, 8)[strength - 1]
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((-(-width // factor), -(-height // factor)), Image.Resampling.BOX)
    return np.array(small.resize((width, height), Image.Resampling.BILINEAR))


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
