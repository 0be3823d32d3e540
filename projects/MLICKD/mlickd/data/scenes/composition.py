"""Composition of a scene: themes, layout, occlusion, and the true boxes of visible objects."""

from dataclasses import dataclass

import numpy as np
import torch
from torchvision.ops import masks_to_boxes

from .objects import CATEGORIES, DARK, LIGHT, MAIN, MAX_ROTATION, SECOND, Part
from .painting import Sprite, background, paint, photograph, random_colors, random_palette

CATEGORY_NAMES = tuple(CATEGORIES)

# Probability of each theme.
_THEME_PROBABILITIES = {"village": 0.24, "garden": 0.20, "harbor": 0.18, "night": 0.14, "kitchen": 0.13, "rain": 0.11}
# Weights of the categories in each theme. Categories of a theme occur together.
_CATEGORY_WEIGHTS: dict[str, dict[str, float]] = {
    "village": {"house": 3, "tree": 2.5, "car": 2, "sun": 1, "cloud": 1, "bird": 1, "ladder": 1.4, "chair": 0.6},
    "garden": {"flower": 3, "butterfly": 2.4, "mushroom": 1.8, "tree": 1.5, "bird": 1, "ladder": 0.8, "sun": 0.8},
    "harbor": {"boat": 3, "fish": 2.5, "anchor": 2.2, "bird": 1.2, "cloud": 1, "sun": 1},
    "night": {"moon": 3, "star": 3, "house": 1, "tree": 0.7, "clock": 0.6},
    "kitchen": {"cup": 3, "clock": 2, "chair": 2, "key": 1.8, "flower": 0.6},
    "rain": {"umbrella": 3, "cloud": 2, "car": 1.6, "key": 0.8, "house": 0.8},
}
_OBJECT_COUNTS = (0.12, 0.22, 0.26, 0.20, 0.13, 0.07)  # probability of 1, 2, ... objects
_REPEATED = 0.15  # probability that an object repeats a category of the scene
_OUT_OF_THEME = 0.15  # probability that the category does not depend on the theme
_SMALLEST, _LARGEST = 1 / 13, 1 / 1.9  # range of object sizes relative to the image side; 40% are below 1/6
_SMALLEST_PIXELS = 8.0
_MIN_VISIBLE = 0.6  # minimum fraction of an object's silhouette that stays visible
_PLACEMENT_TRIALS = 12


@dataclass(frozen=True)
class Scene:
    """A drawn image and its visible objects.

    Attributes:
        image: (S, S, 3) uint8 RGB.
        categories: (K,) int64 index into `CATEGORY_NAMES` of each visible object.
        boxes: (K, 4) int64 tight boxes (x0, y0, x1, y1) of the visible parts, in pixels; x1 and y1 are exclusive.
        masks: (K, S, S) bool masks of the visible parts.
    """

    image: np.ndarray
    categories: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray


def draw_scene(rng: np.random.Generator, side: int) -> Scene:
    """Draw a square scene of 1 to 6 objects. ``side`` is 64 to 384 pixels. Equal arguments give the same scene."""
    image = background(rng, side)
    categories: list[int] = []
    masks: list[np.ndarray] = []
    areas: list[int] = []

    def paint_over(sprite: Sprite) -> bool:
        """Paint a sprite unless it covers too much of an object. Return whether it is painted."""
        uncovered = ~sprite.mask(side)
        remaining = [mask & uncovered for mask in masks]
        if any(np.count_nonzero(mask) < _MIN_VISIBLE * area for mask, area in zip(remaining, areas, strict=True)):
            return False
        sprite.paint_on(image)
        masks[:] = remaining
        return True

    for _ in range(rng.integers(1, 7)):
        _clutter(rng, side, rng.uniform(0.04, 0.22) * side).paint_on(image)

    names = _choose_categories(rng)
    sizes = np.exp(rng.uniform(np.log(_SMALLEST), np.log(_LARGEST), size=len(names))) * side
    sizes = np.maximum(sizes, _SMALLEST_PIXELS)
    # Large objects are painted first, so that they do not cover small objects.
    for i in np.argsort(-sizes, kind="stable"):
        for _ in range(_PLACEMENT_TRIALS):
            sprite = _draw_object(rng, names[i], sizes[i], image)
            mask, area = sprite.mask(side), np.count_nonzero(sprite.alpha >= 0.5)
            if np.count_nonzero(mask) >= _MIN_VISIBLE * area and paint_over(sprite):
                masks.append(mask)
                areas.append(area)
                categories.append(CATEGORY_NAMES.index(names[i]))
                break

    for _ in range(rng.integers(0, 3)):
        paint_over(_clutter(rng, side, rng.uniform(0.04, 0.12) * side))

    visible = np.stack(masks)
    boxes = masks_to_boxes(torch.from_numpy(visible)).numpy().astype(np.int64) + (0, 0, 1, 1)
    return Scene(photograph(rng, image), np.array(categories), boxes, visible)


def _choose_categories(rng: np.random.Generator) -> list[str]:
    probabilities = np.array(list(_THEME_PROBABILITIES.values()))
    theme = list(_CATEGORY_WEIGHTS.values())[rng.choice(len(probabilities), p=probabilities / probabilities.sum())]
    in_theme = np.array([theme.get(name, 0.0) for name in CATEGORY_NAMES])
    weights = (1 - _OUT_OF_THEME) * in_theme / in_theme.sum() + _OUT_OF_THEME / len(CATEGORY_NAMES)
    chosen: list[int] = []
    for _ in range(1 + rng.choice(len(_OBJECT_COUNTS), p=_OBJECT_COUNTS)):
        if chosen and rng.uniform() < _REPEATED:
            chosen.append(int(rng.choice(chosen)))
        else:
            remaining = weights.copy()
            remaining[chosen] = 0
            chosen.append(int(rng.choice(len(remaining), p=remaining / remaining.sum())))
    return [CATEGORY_NAMES[index] for index in chosen]


def _draw_object(rng: np.random.Generator, name: str, size: float, image: np.ndarray) -> Sprite:
    """Return a sprite of a new object, about ``size`` pixels long, at a random position. ``image`` is not changed."""
    side = len(image)
    center = rng.uniform(0.4 * size, side - 0.4 * size, size=2)
    stretch = np.array([rng.choice([-1, 1]) * np.exp(rng.normal(0, 0.12)), 1.0])
    rotation = _rotation(np.deg2rad(MAX_ROTATION[name]) * rng.uniform(-1, 1))
    shear = np.array([[1.0, rng.normal(0, 0.08)], [0.0, 1.0]])
    linear = rotation @ shear @ np.diag(stretch) * size / 2
    outline = max(0.7, size * rng.uniform(0.015, 0.035))
    supersample = 3 if size < 50 else 2
    x, y = np.clip(center.astype(int), 0, side - 1)
    surroundings = image[max(0, y - 8) : y + 9, max(0, x - 8) : x + 9].mean(axis=(0, 1)) / 255
    palette = random_palette(rng, surroundings)
    return paint(rng, CATEGORIES[name](rng), palette, linear, center, outline=outline, supersample=supersample)


def _clutter(rng: np.random.Generator, side: int, size: float) -> Sprite:
    """Paint a shape that does not belong to a category but consists of the same simple parts."""
    kind = rng.integers(4)
    tones = rng.permutation([MAIN, SECOND, DARK, LIGHT]).tolist()
    if kind == 0:  # a pebble
        angles = np.linspace(0, 2 * np.pi, rng.integers(5, 20), endpoint=False)
        radii = rng.uniform(0.7, 1.0, size=len(angles))
        shape = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
        parts = [Part(shape, tones[0]), Part(shape * rng.uniform(0.2, 0.7), tones[1])]
    elif kind == 1:  # a tile
        shape = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])[: rng.integers(3, 5)]
        parts = [Part(shape, tones[0]), Part(shape * (1, rng.uniform(0.2, 0.6)), tones[1])]
    elif kind == 2:  # a ring or an arc
        angles = np.linspace(0, rng.uniform(np.pi / 2, 2 * np.pi), 16)
        parts = [Part(np.stack([np.cos(angles), np.sin(angles)], axis=1), tones[0], rng.uniform(0.15, 0.4))]
    else:  # twigs
        parts = [Part(rng.uniform(-1, 1, size=(rng.integers(2, 4), 2)), tone, rng.uniform(0.08, 0.2)) for tone in tones]
        parts = parts[: rng.integers(1, 4)]
    center = rng.uniform(0, side, size=2)
    linear = _rotation(rng.uniform(0, 2 * np.pi)) @ np.diag([1, rng.uniform(0.4, 1)]) * size / 2
    return paint(rng, parts, random_colors(rng, 4), linear, center)


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
