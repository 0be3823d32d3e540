"""An image with the teacher's best regions, or with a class activation map."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .image_results import format_score, printable_line

if TYPE_CHECKING:
    from detectron2.structures import Instances

GREEN, RIM, BACKGROUND = "#14e04a", "#00000099", "#000000cc"
MAP_COLORS, MAP_OPACITY = np.array([[255, 120, 0], [0, 90, 255]]), 0.7
# Sizes as fractions of the longer side, so that an image looks the same at every size.
LINE_WIDTH = 1 / 280
BEST_LINE_WIDTH = 1 / 110
FONT_SIZE = 1 / 34

Rectangle = tuple[float, float, float, float]


def top_regions(instances: Instances, top_k: int = 10) -> Instances:
    """Return the detections with the highest scores, best first; equal scores keep their order."""
    return instances[instances.scores.argsort(descending=True, stable=True)[:top_k]]


def draw_regions(
    image: np.ndarray, instances: Instances | None, class_names: Sequence[str], *, side: int, top_k: int = 10
) -> np.ndarray:
    """Draw the best regions in green with class and score, and the best one with a thick line.

    Labels do not overlap. A label without free space is left out; labels of better regions are placed first.

    Args:
        image: (H, W, 3) uint8 RGB.
        instances: detections with ``pred_boxes`` in pixels of ``image``, ``scores`` and ``pred_classes``; or None.
        class_names: C names.
        side: longer side of the result in pixels; labels need about 480.
        top_k: number of regions.

    Returns:
        (H', W', 3) uint8 RGB.
    """
    height, width = image.shape[:2]
    size = tuple(max(1, round(length * side / max(height, width))) for length in (width, height))
    photo = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    if instances is None:
        return np.asarray(photo)
    regions = top_regions(instances.to("cpu"), top_k)
    boxes = regions.pred_boxes.clone()
    boxes.scale(size[0] / width, size[1] / height)
    boxes.clip((size[1], size[0]))
    best_first = list(zip(boxes.tensor.tolist(), regions.pred_classes.tolist(), regions.scores.tolist(), strict=True))
    draw = ImageDraw.Draw(photo, "RGBA")  # blends translucent colors with the photo
    for rank, (box, _, _) in reversed(list(enumerate(best_first))):
        _draw_outline(draw, box, max(1, round(side * (LINE_WIDTH if rank else BEST_LINE_WIDTH))))
    occupied: list[Rectangle] = []
    for rank, (box, category, score) in enumerate(best_first):
        label = f"{printable_line(class_names[category])} {format_score(score)}"
        font = dejavu_font(side * FONT_SIZE, bold=not rank)
        padding = font.size / 10
        place = _free_place(box, font.getlength(label) + 2 * padding, sum(font.getmetrics()), size, occupied)
        if place:
            occupied.append(place)
            draw.rectangle(place, BACKGROUND)
            draw.text((place[0] + padding, place[1]), label, GREEN, font)
    return np.asarray(photo)


def draw_activation_map(image: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Blend an image (H, W, 3) uint8 RGB with a class activation map (h, w), see :func:`color_map`."""
    photo = Image.fromarray(image).convert("RGBA")
    photo.alpha_composite(color_map(cells).resize(photo.size, Image.Resampling.BICUBIC))
    return np.asarray(photo.convert("RGB"))


def color_map(cells: np.ndarray) -> Image.Image:
    """Return a class activation map (h, w) as RGBA: orange above 0, blue below 0, larger values less transparent."""
    alpha = 255 * MAP_OPACITY * np.abs(cells) / (np.abs(cells).max() or 1)
    return Image.fromarray(np.dstack([np.where(cells[..., None] > 0, *MAP_COLORS), np.rint(alpha)]).astype(np.uint8))


@cache
def dejavu_font(size: float, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, which is part of matplotlib, in a size in pixels."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", name), size)


def _draw_outline(draw: ImageDraw.ImageDraw, box: Rectangle, width: int) -> None:
    """Draw a green rectangle inside the box, with a dark rim on both sides of the line."""
    x0, y0, x1, y1 = map(round, box)
    x1, y1 = max(x0, x1 - 1), max(y0, y1 - 1)  # Pillow draws the right and bottom edge, too
    rim = max(1, width // 4)
    draw.rectangle((x0 - rim, y0 - rim, x1 + rim, y1 + rim), outline=RIM, width=width + 2 * rim)
    draw.rectangle((x0, y0, x1, y1), outline=GREEN, width=width)


def _free_place(
    box: Rectangle, width: float, height: float, image_size: tuple[int, int], occupied: Sequence[Rectangle]
) -> Rectangle | None:
    """Return the first free place for a label inside the image: above its box, or in a corner of the box."""
    x0, y0, x1, y1 = box
    right, bottom = (max(length - size, 0) for length, size in zip(image_size, (width, height), strict=True))
    for x, y in [(x0, y0 - height), (x0, y0), (x1 - width, y0), (x0, y1), (x0, y1 - height), (x1 - width, y1 - height)]:
        x = min(max(x, 0), right)
        others = [o for o in occupied if x < o[2] and o[0] < x + width and y < o[3] and o[1] < y + height]
        if 0 <= y <= bottom and not others:
            return x, y, x + width, y + height
    return None
