"""Color, texture and rasterization for the `scenes` dataset.

Colors are RGB in [0, 1]; images are (S, S, 3) uint8 RGB. All random numbers come from the given generator.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from .objects import DARK, Part

_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Sprite:
    """A painted shape and its position in an image, partly outside if a coordinate is negative or too large.

    Attributes:
        color: (h, w, 3) float32 in [0, 255], premultiplied by ``alpha``.
        alpha: (h, w) float32 coverage in [0, 1].
        x, y: column and row of the upper left corner, in pixels.
    """

    color: np.ndarray
    alpha: np.ndarray
    x: int
    y: int

    def paint_on(self, image: np.ndarray) -> None:
        """Blend the sprite into an (S, S, 3) uint8 image, in place."""
        target, source = self._overlap(len(image))
        image[target] = image[target] * (1 - self.alpha[source][..., None]) + self.color[source] + 0.5

    def mask(self, side: int) -> np.ndarray:
        """Return a mask (side, side) bool, true where the sprite covers at least half of a pixel."""
        mask = np.zeros((side, side), dtype=bool)
        target, source = self._overlap(side)
        mask[target] = self.alpha[source] >= 0.5
        return mask

    def _overlap(self, side: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return the slices of the image and of the sprite that overlap; they may be empty."""
        (y0, x0), (y1, x1) = np.clip([(self.y, self.x), np.add((self.y, self.x), self.alpha.shape)], 0, side)
        return np.s_[y0:y1, x0:x1], np.s_[y0 - self.y : y1 - self.y, x0 - self.x : x1 - self.x]


def random_colors(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return (count, 3) float64 colors of random hue, saturation and brightness."""
    mix = rng.uniform(size=(count, 3))
    low, high = mix.min(axis=1, keepdims=True), mix.max(axis=1, keepdims=True)
    saturation, value = rng.uniform(0.1, 0.9, size=(count, 1)), rng.uniform(0.3, 1.0, size=(count, 1))
    return value * (1 - saturation * (high - mix) / (high - low))


def random_palette(rng: np.random.Generator, surroundings: np.ndarray) -> np.ndarray:
    """Return (4, 3) colors, one per tone of an object. They contrast with the color (3,) of its surroundings."""
    main = _contrasting_color(rng, surroundings)
    second = _contrasting_color(rng, main, surroundings)
    dark, light = random_colors(rng, 2)
    dark, light = 0.3 * dark, 1 - 0.25 * light
    if rng.uniform() < 0.25:
        dark, light = light, dark
    return np.stack([main, second, dark, light])


def _contrasting_color(rng: np.random.Generator, *others: np.ndarray) -> np.ndarray:
    """Return the one of five random colors (3,) with the largest distance from all other colors."""
    candidates = random_colors(rng, 5)
    distance = np.abs(candidates[:, None] - np.stack(others)).sum(axis=2).min(axis=1)
    return candidates[distance.argmax()]


_SWATCH_SIDE = 512


@lru_cache(maxsize=1)
def _swatches() -> list[np.ndarray]:
    """Return (512, 512) uint8 textures: stripes, checks, grids, and noise of several scales."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:_SWATCH_SIDE, :_SWATCH_SIDE].astype(np.float32)
    swatches = []
    for period in (5.0, 8.0, 13.0, 21.0):
        for kind in range(3):
            turn = rng.uniform(0, np.pi)
            u, v = (columns * np.cos(t) + rows * np.sin(t) for t in (turn, turn + np.pi / 2))
            u, v = (np.clip(rng.uniform(1, 4) * np.sin(2 * np.pi / period * w), -1, 1) for w in (u, v))
            swatches.append((u, u * v, np.maximum(u, v))[kind])
    for cell in (4.0, 8.0, 16.0, 30.0) * 3:
        fine = _smooth_noise(rng, max(2.0, cell / 4))
        swatches.append(np.clip(0.5 * (_smooth_noise(rng, cell) + rng.uniform(0, 1) * fine), -1, 1))
    return [np.round(127.5 + 127.5 * swatch).astype(np.uint8) for swatch in swatches]


@lru_cache(maxsize=1)
def _cloudy_swatches() -> list[np.ndarray]:
    """Return (512, 512) uint8 textures for backgrounds, which vary slowly."""
    rng = np.random.default_rng(1)
    return [
        np.clip(127.5 + 80 * _smooth_noise(rng, cell), 0, 255).astype(np.uint8)
        for cell in (25.0, 50.0, 80.0, 100.0)
        for _ in range(3)
    ]


def _smooth_noise(rng: np.random.Generator, cell: float) -> np.ndarray:
    count = round(_SWATCH_SIDE / cell) + 1
    grid = rng.standard_normal((count, count), dtype=np.float32)
    return cv2.resize(grid, (_SWATCH_SIDE, _SWATCH_SIDE), interpolation=cv2.INTER_CUBIC)


def _cut(rng: np.random.Generator, swatches: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """Return a random crop (height, width) uint8 of a random swatch, randomly mirrored and transposed."""
    swatch = swatches[rng.integers(len(swatches))]
    if rng.integers(2):
        swatch = swatch.T
    y, x = rng.integers(_SWATCH_SIDE - height + 1), rng.integers(_SWATCH_SIDE - width + 1)
    return swatch[y : y + height, x : x + width][:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]


def paint(
    rng: np.random.Generator,
    parts: Sequence[Part],
    palette: np.ndarray,
    linear: np.ndarray,
    center: np.ndarray,
    *,
    outline: float = 0.0,
    supersample: int = 2,
) -> Sprite:
    """Rasterize the parts of an object, with anti-aliasing, faint texture and an optional outline.

    Args:
        rng: random generator of the texture.
        parts: parts in painting order.
        palette: (4, 3) color of each tone.
        linear: (2, 2) linear map from unit coordinates to pixels of the image.
        center: (2,) position of the object's origin in the image, in pixels.
        outline: width in pixels of a dark rim around the silhouette; 0 omits the rim.
        supersample: number of raster points per pixel and axis.
    """
    (a, b), (c, d) = linear
    scale = abs(a * d - b * c) ** 0.5
    points = np.concatenate([part.points for part in parts]) @ linear.T + center
    reach = outline + 1 + scale * max((part.width or 0.0) for part in parts) / 2
    x0, y0 = np.floor(points.min(axis=0) - reach).astype(int).tolist()
    x1, y1 = np.ceil(points.max(axis=0) + reach).astype(int).tolist()
    width, height = x1 - x0, y1 - y0

    vertices = ((points - (x0, y0)) * supersample - 0.5) * 2**_SUBPIXEL_BITS
    shapes = np.split(np.round(vertices).astype(np.int32), np.cumsum([len(part.points) for part in parts])[:-1])
    # The fourth channel is the coverage. The rim is a wider copy of the silhouette and is painted first.
    canvas = np.zeros((height * supersample, width * supersample, 4), dtype=np.uint8)
    tones = [(*color, 255) for color in np.round(255 * palette).tolist()]
    rim_tone = (*(value / 4 for value in tones[DARK][:3]), 255)
    for rim in (True, False) if outline else (False,):
        for part, shape in zip(parts, shapes, strict=True):
            tone = rim_tone if rim else tones[part.tone]
            stroke = (part.width or 0.0) * scale + (2 * outline if rim else 0.0)
            if part.width is None:
                cv2.fillPoly(canvas, [shape], tone, shift=_SUBPIXEL_BITS)
            if stroke:
                thickness = max(1, round(stroke * supersample))
                cv2.polylines(canvas, [shape], part.width is None, tone, thickness, cv2.LINE_8, _SUBPIXEL_BITS)

    pixels = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    grain = _cut(rng, _swatches(), height, width) * np.float32(1 / 127.5) - 1
    alpha = pixels[..., 3] * np.float32(1 / 255)
    color = pixels[..., :3] * (1 + np.float32(rng.uniform(0.02, 0.14)) * grain)[..., None]
    return Sprite(np.minimum(color, 255 * alpha[..., None]), alpha, x0, y0)


def background(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return an image (side, side, 3) uint8 with one textured region, or two with a wavy border between them."""
    image = _textured_field(rng, side)
    if rng.uniform() < 0.65:
        bends = rng.standard_normal((6, 1))
        wave = rng.uniform(0.01, 0.06) * side * cv2.resize(bends, (1, side), interpolation=cv2.INTER_CUBIC)[:, 0]
        slope = rng.uniform(-0.3, 0.3) * (np.arange(side) - side / 2)
        below = np.arange(side)[:, None] > rng.uniform(0.25, 0.8) * side + wave + slope
        cv2.copyTo(_textured_field(rng, side), below.astype(np.uint8), image)
    return image


def _textured_field(rng: np.random.Generator, side: int) -> np.ndarray:
    first = 0.15 + 0.85 * random_colors(rng, 1)[0]  # bright enough for dark outlines
    second = np.clip(first + rng.uniform(-0.25, 0.25, size=3), 0, 1)
    shades = np.round(255 * np.linspace(first, second, 256)).astype(np.uint8)[:, None]
    detail = rng.uniform(0.1, 0.5)
    cloudy, fine = (_cut(rng, swatches, side, side) for swatches in (_cloudy_swatches(), _swatches()))
    blend = cv2.addWeighted(cloudy, 1 - detail / 2, fine, detail / 2, 0)
    return cv2.LUT(cv2.merge([blend] * 3), shades)


def photograph(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Add camera effects to an (S, S, 3) uint8 image: slight blur, sensor noise and exposure."""
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.7))
    grain, amount = rng.integers(0, 256, size=image.shape[:2], dtype=np.uint8), rng.uniform(0.01, 0.06)
    image = cv2.addWeighted(image, 1.0, cv2.merge([grain] * 3), amount, -127.5 * amount)
    levels = np.linspace(0, 1, 256) ** rng.uniform(0.8, 1.25) * rng.uniform(0.85, 1.1)
    return cv2.LUT(image, np.round(np.clip(levels, 0, 1) * 255).astype(np.uint8))
