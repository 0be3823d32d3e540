"""The objects of the `scenes` dataset, as parts in a unit box.

An object is a list of `Part`, painted in order. Coordinates (x right, y down) are roughly in [-1, 1] x [-1, 1]. A part
has an index into a random palette instead of a color, so that only shapes distinguish the categories.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

MAIN, SECOND, DARK, LIGHT = range(4)


class Part(NamedTuple):
    """A filled polygon or an open line.

    Attributes:
        points: (P, 2) float64 vertices in unit coordinates.
        tone: index into the palette of the object: `MAIN`, `SECOND`, `DARK` or `LIGHT`.
        width: width of the line in unit coordinates; None for a filled polygon.
    """

    points: np.ndarray
    tone: int
    width: float | None = None


def _polygon(tone: int, *points: tuple[float, float]) -> Part:
    return Part(np.array(points, dtype=np.float64), tone)


def _line(tone: int, width: float, *points: tuple[float, float]) -> Part:
    return Part(np.array(points, dtype=np.float64), tone, width)


def _rectangle(tone: int, x0: float, y0: float, x1: float, y1: float) -> Part:
    return _polygon(tone, (x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _arc_points(x: float, y: float, rx: float, ry: float, start: float, end: float, count: int = 24) -> np.ndarray:
    """Return points (count, 2) of an elliptic arc. Angles are in degrees, clockwise from the x axis."""
    angles = np.deg2rad(np.linspace(start, end, count))
    return np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1)


_CIRCLE = _arc_points(0, 0, 1, 1, 0, 360, 33)[:-1]


def _ellipse(tone: int, x: float, y: float, rx: float, ry: float | None = None, turn: float = 0.0) -> Part:
    cosine, sine = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    points = _CIRCLE * (rx, rx if ry is None else ry) @ ((cosine, sine), (-sine, cosine)) + (x, y)
    return Part(points, tone)


def _arc(tone: int, width: float, x: float, y: float, rx: float, ry: float, start: float, end: float) -> Part:
    return Part(_arc_points(x, y, rx, ry, start, end), tone, width)


def _house(rng: np.random.Generator) -> list[Part]:
    roof_top = rng.uniform(-1.0, -0.8)
    parts = [
        _rectangle(SECOND, 0.35, -0.85, 0.6, -0.2),
        _rectangle(MAIN, -0.75, -0.15, 0.75, 1.0),
        _polygon(SECOND, (-1.0, -0.1), (0.0, roof_top), (1.0, -0.1)),
        _rectangle(LIGHT, -0.55, 0.1, -0.2, 0.45),
        _rectangle(LIGHT, 0.2, 0.1, 0.55, 0.45),
    ]
    door = rng.uniform(-0.35, 0.1)
    return [*parts, _rectangle(DARK, door, 0.5, door + 0.3, 1.0)]


def _tree(rng: np.random.Generator) -> list[Part]:
    parts = [_polygon(SECOND, (-0.14, 0.0), (0.14, 0.0), (0.2, 1.0), (-0.2, 1.0))]
    crown = [(-0.4, 0.0, 0.36), (0.4, 0.0, 0.36), (-0.28, -0.45, 0.36), (0.3, -0.42, 0.36), (0, -0.6, 0.4)]
    for x, y, radius in crown:
        parts.append(_ellipse(MAIN, x + rng.normal(0, 0.04), y + rng.normal(0, 0.04), radius))
    parts.append(_ellipse(MAIN, 0.0, -0.15, 0.5, 0.42))
    fruit = [(-0.4, 0.0), (-0.25, -0.5), (0.3, -0.45), (0.4, 0.05), (0.0, -0.2)]
    return [*parts, *(_ellipse(DARK, x + rng.normal(0, 0.06), y + rng.normal(0, 0.06), 0.08) for x, y in fruit)]


def _car(rng: np.random.Generator) -> list[Part]:
    front = rng.uniform(0.3, 0.5)
    return [
        _polygon(SECOND, (-0.65, -0.05), (-0.4, -0.55), (front, -0.55), (front + 0.3, -0.05)),
        _polygon(LIGHT, (-0.48, -0.08), (-0.32, -0.43), (-0.06, -0.43), (-0.06, -0.08)),
        _polygon(LIGHT, (0.06, -0.08), (0.06, -0.43), (front - 0.08, -0.43), (front + 0.14, -0.08)),
        _polygon(MAIN, (-1, -0.05), (0.8, -0.05), (1, 0.1), (1, 0.38), (-1, 0.38)),
        *(_ellipse(DARK, x, 0.38, 0.27) for x in (-0.55, 0.55)),
        *(_ellipse(LIGHT, x, 0.38, 0.12) for x in (-0.55, 0.55)),
    ]


def _boat(rng: np.random.Generator) -> list[Part]:
    mast = rng.uniform(-0.15, 0.1)
    return [
        _line(DARK, 0.09, (mast, -1.0), (mast, 0.5)),
        _polygon(SECOND, (mast + 0.07, -0.95), (mast + 0.07, 0.35), (0.85, 0.35)),
        _polygon(LIGHT, (mast - 0.07, -0.7), (mast - 0.07, 0.35), (-0.7, 0.35)),
        _polygon(MAIN, (-1.0, 0.45), (1.0, 0.45), (0.65, 0.95), (-0.7, 0.95)),
    ]


def _sun(rng: np.random.Generator) -> list[Part]:
    rays = int(rng.integers(8, 13))
    parts = []
    for turn in np.arange(rays) * 2 * np.pi / rays:
        along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
        parts.append(Part(np.array([0.66 * along + 0.12 * across, along, 0.66 * along - 0.12 * across]), MAIN))
    return [*parts, _ellipse(MAIN, 0, 0, rng.uniform(0.48, 0.56))]


def _cloud(rng: np.random.Generator) -> list[Part]:
    parts = [_ellipse(SECOND, 0.03, 0.3, 0.85, 0.2), _ellipse(MAIN, 0.0, 0.12, 0.7, 0.26)]
    for x, y, radius in [(-0.62, 0.08, 0.32), (-0.22, -0.2, 0.4), (0.28, -0.12, 0.34), (0.66, 0.1, 0.3)]:
        parts.append(_ellipse(MAIN, x, y + rng.normal(0, 0.03), radius * rng.uniform(0.92, 1.08)))
    return parts


def _moon(rng: np.random.Generator) -> list[Part]:
    # A wide and a narrow arc share their end points, 60 degrees above and below the x axis.
    tip, bite = np.array([0.5, np.sqrt(0.75)]), rng.uniform(0.25, 0.5)
    radius = float(np.hypot(tip[0] - bite, tip[1]))
    turn = float(np.rad2deg(np.arctan2(tip[1], tip[0] - bite)))
    outline = [_arc_points(0, 0, 1.0, 1.0, 60, 300), _arc_points(bite, 0, radius, radius, 360 - turn, turn)]
    return [Part(np.concatenate(outline) + (0.25, 0), MAIN), _ellipse(DARK, -0.5, -0.1, 0.09)]


def _star(rng: np.random.Generator) -> list[Part]:
    inner = rng.uniform(0.38, 0.46)
    angles = np.deg2rad(-90 + 36 * np.arange(10))
    radii = np.where(np.arange(10) % 2 == 0, 1.0, inner)
    points = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    return [Part(points, MAIN), Part(0.45 * points, SECOND)]


def _fish(rng: np.random.Generator) -> list[Part]:
    fin = rng.uniform(-0.65, -0.5)
    return [
        _polygon(SECOND, (0.4, 0.0), (1.0, -0.5), (0.85, 0.0), (1.0, 0.5)),
        _polygon(SECOND, (-0.3, -0.25), (0.1, fin), (0.35, -0.15)),
        _ellipse(MAIN, -0.25, 0.0, 0.75, 0.42),
        _arc(DARK, 0.07, -0.75, 0.0, 0.35, 0.36, -60, 60),
        _ellipse(LIGHT, -0.65, -0.1, 0.13),
        _ellipse(DARK, -0.66, -0.1, 0.06),
    ]


def _bird(rng: np.random.Generator) -> list[Part]:
    lift = rng.uniform(0.0, 0.25)
    return [
        _polygon(SECOND, (0.35, 0.1), (1.0, -0.15), (1.0, 0.2)),
        *(_line(DARK, 0.07, (x, 0.5), (x + 0.05, 0.95), (x - 0.1, 0.95)) for x in (-0.12, 0.12)),
        _ellipse(MAIN, 0.0, 0.15, 0.56, 0.42),
        _ellipse(MAIN, -0.48, -0.32, 0.3),
        _polygon(LIGHT, (-0.72, -0.45), (-1.0, -0.24), (-0.72, -0.18)),
        _polygon(SECOND, (-0.25, 0.05), (0.5, -0.15 - lift), (0.3, 0.3)),
        _ellipse(DARK, -0.54, -0.38, 0.07),
    ]


def _flower(rng: np.random.Generator) -> list[Part]:
    petals, start = int(rng.integers(5, 8)), rng.uniform(0, 90)
    parts = [_line(DARK, 0.1, (0.0, -0.2), (0.04, 1.0)), _ellipse(DARK, 0.3, 0.68, 0.3, 0.12, -30)]
    for turn in start + np.arange(petals) * 360 / petals:
        x, y = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
        parts.append(_ellipse(MAIN, 0.38 * x, -0.4 + 0.38 * y, 0.28, 0.19, turn))
    return [*parts, _ellipse(SECOND, 0.0, -0.4, 0.2)]


def _mushroom(rng: np.random.Generator) -> list[Part]:
    stem = rng.uniform(0.2, 0.3)
    cap = np.concatenate([_arc_points(0, 0.15, 1.0, 0.95, 180, 360), _arc_points(0, 0.15, 1.0, 0.16, 0, 180)])
    spots = [(-0.5, -0.15, 0.14), (0.05, -0.45, 0.17), (0.5, -0.1, 0.15), (-0.05, 0.02, 0.1)]
    return [
        _polygon(LIGHT, (-stem, 0.1), (stem, 0.1), (stem + 0.12, 1.0), (-stem - 0.12, 1.0)),
        Part(cap, MAIN),
        *(_ellipse(SECOND, x + rng.normal(0, 0.04), y, radius) for x, y, radius in spots),
    ]


def _butterfly(rng: np.random.Generator) -> list[Part]:
    spread = rng.uniform(0.85, 1.0)
    parts = []
    for side in (-1, 1):
        parts += [
            _ellipse(MAIN, side * 0.5 * spread, -0.32, 0.5, 0.36, side * -35),
            _ellipse(SECOND, side * 0.4 * spread, 0.38, 0.36, 0.28, side * 35),
            _ellipse(LIGHT, side * 0.55 * spread, -0.36, 0.16),
            _line(DARK, 0.06, (0.0, -0.5), (side * 0.22, -0.92)),
        ]
    return [*parts, _ellipse(DARK, 0, 0.0, 0.1, 0.62)]


def _cup(rng: np.random.Generator) -> list[Part]:
    taper = rng.uniform(0.05, 0.2)
    return [
        _arc(MAIN, 0.17, 0.5, 0.05, 0.4, 0.38, -100, 100),
        _polygon(MAIN, (-0.8, -0.55), (0.55, -0.55), (0.55 - taper, 0.8), (-0.8 + taper, 0.8)),
        _ellipse(LIGHT, -0.125, -0.55, 0.675, 0.18),
        _ellipse(DARK, -0.125, -0.53, 0.54, 0.11),
        _polygon(SECOND, (-0.74, 0.05), (0.5, 0.05), (0.46, 0.35), (-0.7, 0.35)),
    ]


def _clock(rng: np.random.Generator) -> list[Part]:
    hour, minute = rng.uniform(0, 2 * np.pi, size=2)
    parts = [_ellipse(MAIN, 0, 0, 1.0), _ellipse(LIGHT, 0, 0, 0.78)]
    for turn in np.arange(12) * np.pi / 6:
        x, y = np.cos(turn), np.sin(turn)
        parts.append(_line(DARK, 0.07, (0.6 * x, 0.6 * y), (0.72 * x, 0.72 * y)))
    return [
        *parts,
        _line(DARK, 0.13, (0.0, 0.0), (0.36 * np.cos(hour), 0.36 * np.sin(hour))),
        _line(DARK, 0.09, (0.0, 0.0), (0.55 * np.cos(minute), 0.55 * np.sin(minute))),
    ]


def _key(rng: np.random.Generator) -> list[Part]:
    teeth = rng.uniform(0.3, 0.45, size=2)
    return [
        _arc(MAIN, 0.2, -0.6, 0.0, 0.31, 0.34, 0, 360),
        _line(MAIN, 0.2, (-0.28, 0.0), (0.95, 0.0)),
        _line(MAIN, 0.17, (0.88, 0.0), (0.88, teeth[0])),
        _line(MAIN, 0.17, (0.55, 0.0), (0.55, teeth[1])),
    ]


def _umbrella(rng: np.random.Generator) -> list[Part]:
    height = rng.uniform(0.75, 0.9)
    dome = [_arc_points(0, 0.05, 1.0, height, 180, 360)]
    dome += [_arc_points(x, 0.05, 1 / 3, 0.14, 0, -180, 8) for x in (2 / 3, 0.0, -2 / 3)]
    return [
        _line(DARK, 0.1, (0.0, -0.95), (0.0, 0.75)),
        _arc(DARK, 0.1, 0.16, 0.75, 0.16, 0.2, 180, 0),
        Part(np.concatenate(dome), MAIN),
        Part(np.concatenate([_arc_points(0, 0.05, 1 / 3, height, 180, 360), dome[2]]), SECOND),
    ]


def _ladder(rng: np.random.Generator) -> list[Part]:
    rungs, half = int(rng.integers(4, 7)), rng.uniform(0.3, 0.42)
    parts = [_line(SECOND, 0.11, (-half, y), (half, y)) for y in np.linspace(-0.75, 0.75, rungs)]
    return [*parts, *(_line(MAIN, 0.14, (x, -0.95), (x * 1.15, 0.95)) for x in (-half, half))]


def _chair(rng: np.random.Generator) -> list[Part]:
    lean = rng.uniform(0.0, 0.15)
    return [
        _line(MAIN, 0.15, (-0.48 - lean, -0.95), (-0.45, 0.1), (-0.5, 0.95)),
        _line(MAIN, 0.15, (0.5, 0.15), (0.55, 0.95)),
        _line(SECOND, 0.13, (-0.47 - lean, -0.75), (-0.1 - lean, -0.62), (-0.1, 0.05)),
        _line(SECOND, 0.11, (-0.42, -0.32), (-0.1, -0.22)),
        _line(SECOND, 0.1, (-0.12, 0.15), (-0.12, 0.75)),
        _polygon(MAIN, (-0.55, 0.02), (0.35, 0.02), (0.6, 0.25), (-0.52, 0.25)),
    ]


def _anchor(rng: np.random.Generator) -> list[Part]:
    bar = rng.uniform(0.4, 0.5)
    return [
        _arc(MAIN, 0.14, 0.0, -0.78, 0.17, 0.17, 0, 360),
        _line(MAIN, 0.18, (0.0, -0.6), (0.0, 0.85)),
        _line(MAIN, 0.15, (-bar, -0.35), (bar, -0.35)),
        _arc(MAIN, 0.18, 0.0, 0.15, 0.75, 0.72, 15, 165),
        _polygon(SECOND, (-1.0, 0.45), (-0.72, 0.0), (-0.45, 0.5)),
        _polygon(SECOND, (1.0, 0.45), (0.72, 0.0), (0.45, 0.5)),
    ]


_DRAWINGS = (
    *(_house, _tree, _car, _boat, _sun, _cloud, _moon, _star, _fish, _bird),
    *(_flower, _mushroom, _butterfly, _cup, _clock, _key, _umbrella, _ladder, _chair, _anchor),
)
# Functions that return the parts of a random object, by category. Objects of a category vary slightly.
CATEGORIES: dict[str, Callable[[np.random.Generator], list[Part]]] = {
    draw.__name__.removeprefix("_"): draw for draw in _DRAWINGS
}
# Maximum rotation of an object in degrees, in either direction.
MAX_ROTATION = defaultdict(lambda: 25, house=15, sun=180, star=35, bird=30, butterfly=30, key=45)
MAX_ROTATION |= dict.fromkeys(("tree", "cloud", "flower", "mushroom", "clock", "anchor"), 20)
