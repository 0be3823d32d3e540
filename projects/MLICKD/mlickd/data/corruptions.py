"""Damage to test images, as it happens to photos: noise, blur, compression, light, occlusion, too few pixels.

It is done to the view that a model takes, not to the file: a strength then means the same for a photo of 300 pixels and
one of 5,000, and models of one input size see the same bytes. Training never does it.
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

__all__ = ["CORRUPTION_REGISTRY", "STRENGTHS", "Corruption", "corruption_names"]

STRENGTHS = (1, 2, 3)

CORRUPTION_REGISTRY = Registry("CORRUPTION")
CORRUPTION_REGISTRY.__doc__ = """
Kinds of damage: functions ``(image, strength, generator)`` that return another image of the same shape. ``image`` is
(H, W, 3) uint8 RGB of at least one pixel and is left as it is, ``strength`` one of STRENGTHS, ``generator`` a NumPy
generator of all that is random.
"""

# Of the image's area, the smallest and the largest rectangle that hides a part of it.
_RECTANGLE = (0.02, 0.06)
_GRAY = 127


@dataclass(frozen=True)
class Corruption:
    """A kind of damage at a strength.

    What is random in it follows from the seed, the image's id, the kind and the strength, and from nothing else: not
    from the order of the images, nor from who loads them.

    Attributes:
        name: in CORRUPTION_REGISTRY.
        strength: one of STRENGTHS.
        seed: of what is random.
    """

    name: str
    strength: int
    seed: int = 0

    @classmethod
    def parse(cls, text: str, seed: int = 0, field: str = "TEST.CORRUPTION") -> Corruption:
        """The corruption that ``NAME:STRENGTH`` names.

        Args:
            text: for instance ``noise:2``.
            seed: see the class.
            field: what gave the text, for messages.

        Raises:
            InputError: another form, or an unknown name or strength.
        """
        name, _, strength = str(text).partition(":")
        if name not in CORRUPTION_REGISTRY:
            raise InputError(f"{field} {text!r}: no corruption {name!r}; choose one of {', '.join(corruption_names())}")
        if strength not in map(str, STRENGTHS):
            raise InputError(
                f"{field} {text!r}: strength {strength!r} is none of {', '.join(map(str, STRENGTHS))}; "
                f"write for instance {name}:{STRENGTHS[0]}"
            )
        return cls(name, int(strength), seed)

    def __str__(self) -> str:
        return f"{self.name}:{self.strength}"

    def damage(self, image: np.ndarray, image_id: str | int) -> np.ndarray:
        """(H, W, 3) uint8 RGB, of the image of this id, to the same damaged."""
        digest = hashlib.sha256(f"{self.seed}/{image_id}/{self}".encode()).digest()
        generator = np.random.default_rng(int.from_bytes(digest, "big"))
        return CORRUPTION_REGISTRY.get(self.name)(image, self.strength, generator)

    def apply(self, view: torch.Tensor, image_id: str | int, image_format: str = "RGB") -> torch.Tensor:
        """(3, H, W) uint8 in ``RGB`` or ``BGR`` to the same damaged; both orders of channels have the same damage."""
        if image_format == "BGR":
            return self.apply(view.flip(0), image_id).flip(0)
        damaged = self.damage(np.ascontiguousarray(view.permute(1, 2, 0).numpy()), image_id)
        return torch.from_numpy(damaged).permute(2, 0, 1).contiguous()

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of what it makes of a fixed picture: another parameter or library changes it."""
        y, x = np.mgrid[:48, :64]
        picture = np.stack([4 * x, 5 * y, 127 + 100 * np.sin(x / 3) * np.cos(y / 5)], axis=2).astype(np.uint8)
        return hashlib.sha256(self.damage(picture, "fingerprint").tobytes()).hexdigest()


def corruption_names() -> list[str]:
    """The names of all kinds, in the order in which they were registered."""
    return [name for name, _ in CORRUPTION_REGISTRY]


@CORRUPTION_REGISTRY.register()
def noise(image: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    """Gaussian noise on every value, of standard deviation 20, 40 or 60 of 255."""
    deviation = (20, 40, 60)[strength - 1]
    return _to_bytes(image + deviation * generator.standard_normal(image.shape))


@CORRUPTION_REGISTRY.register()
def blur(image: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    """Gaussian blur, of standard deviation 0.75, 1.5 or 3 percent of the shorter side."""
    radius = (0.0075, 0.015, 0.03)[strength - 1] * min(image.shape[:2])
    return np.array(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


@CORRUPTION_REGISTRY.register()
def jpeg(image: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    """Compression as JPEG of quality 25, 12 or 6, with colors at half the resolution."""
    quality = (25, 12, 6)[strength - 1]
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(file) as compressed:
        return np.array(compressed)


@CORRUPTION_REGISTRY.register()
def darker(image: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    """Every value times 0.6, 0.4 or 0.2."""
    return _to_bytes((0.6, 0.4, 0.2)[strength - 1] * image)


@CORRUPTION_REGISTRY.register()
def brighter(image: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    """Every value times 1.3, 1.7 or 2.5; what is brighter than white is white."""
    return _to_bytes((1.3, 1.7, 2.5)[strength - 1] * image)


@CORRUPTION_REGISTRY.register()
def occlusion(image: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    """Gray rectangles, each 2 to 6 percent of the area, until 15, 30 or 50 percent are hidden."""
    share = (0.15, 0.3, 0.5)[strength - 1]
    height, width = image.shape[:2]
    hidden = np.zeros((height, width), dtype=bool)
    while hidden.mean() < share:
        area, aspect = generator.uniform(*_RECTANGLE), generator.uniform(-np.log(2), np.log(2))
        sides = np.sqrt(area) * np.exp([aspect / 2, -aspect / 2])
        rows, columns = np.clip(np.round(sides * (height, width)), 1, (height, width)).astype(int)
        top, left = generator.integers(height - rows + 1), generator.integers(width - columns + 1)
        hidden[top : top + rows, left : left + columns] = True
    return np.where(hidden[..., None], np.uint8(_GRAY), image)


@CORRUPTION_REGISTRY.register()
def small_scale(image: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    """Reduced to a half, a quarter or an eighth of each side, and enlarged again."""
    factor = (2, 4, 8)[strength - 1]
    height, width = image.shape[:2]
    few = Image.fromarray(image).resize((-(-width // factor), -(-height // factor)), Image.Resampling.BOX)
    return np.array(few.resize((width, height), Image.Resampling.BILINEAR))


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
