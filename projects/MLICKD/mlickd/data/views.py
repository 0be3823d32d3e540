"""How an image is seen: which part of it, at what size, mirrored or not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.data import transforms as T
from PIL import Image
from torch.nn import functional as F

__all__ = ["View", "resize_part"]

# A region of which less than this fraction is in view shows something else: the teacher's scores do not hold for it.
_MIN_VISIBLE = 0.75


@dataclass(frozen=True)
class View:
    """A part of an image, warped to a square, mirrored or not.

    A view does not depend on the size of the image, so it can be drawn before the image is read.

    Attributes:
        size: side of the square, in pixels.
        mirror: whether the view is flipped horizontally.
        crop: x0, y0, x1, y1 of the visible part, as fractions of the image's width and height; None for all of it.
    """

    size: int
    mirror: bool = False
    crop: tuple[float, float, float, float] | None = None

    def crop_in_pixels(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return x0, y0, x1, y1 of the visible part of an image of this size: whole pixels, at least one per side."""
        if self.crop is None:
            return 0, 0, width, height
        x0, x1 = _whole_pixels(self.crop[0], self.crop[2], width)
        y0, y1 = _whole_pixels(self.crop[1], self.crop[3], height)
        return x0, y0, x1, y1

    def reduction(self, height: int, width: int, size: int | None = None) -> int:
        """Return by how much an image of this size may be reduced, per side, before the view is taken.

        This is the largest of 1, 2, 4 and 8 for which the visible part is not smaller than the view.

        Args:
            height, width, size: see :meth:`transform`.
        """
        x0, y0, x1, y1 = self.crop_in_pixels(height, width)
        shorter = min(x1 - x0, y1 - y0)
        return max((factor for factor in (2, 4, 8) if shorter >= factor * (size or self.size)), default=1)

    def pixels(
        self, image: np.ndarray, height: int, width: int, size: int | None = None, reduction: int = 1
    ) -> torch.Tensor:
        """Return the view of an image, antialiased.

        Args:
            image: (ceil(height / reduction), ceil(width / reduction), 3) uint8, contiguous.
            height, width, size: see :meth:`transform`.
            reduction: number of pixels, per side, that one pixel of ``image`` stands for.

        Returns:
            (3, side, side) uint8, contiguous.
        """
        x0, y0, x1, y1 = (edge / reduction for edge in self.crop_in_pixels(height, width))
        pixels = resize_part(image, (x0, y0, x1, y1), size or self.size)
        return pixels.flip(2) if self.mirror else pixels

    def transform(self, height: int, width: int, size: int | None = None) -> T.TransformList:
        """Return the transform of coordinates from an image of this size to the view.

        It transforms pixels, too, but :meth:`pixels` is faster.

        Args:
            height, width: size of the image, in pixels.
            size: side of the square if it is not the view's: a teacher sees the same part at a size of its own.
        """
        side = size or self.size
        x0, y0, x1, y1 = self.crop_in_pixels(height, width)
        steps = [T.ResizeTransform(y1 - y0, x1 - x0, side, side)]
        if self.crop is not None:
            steps.insert(0, T.CropTransform(x0, y0, x1 - x0, y1 - y0, width, height))
        if self.mirror:
            steps.append(T.HFlipTransform(side))
        return T.TransformList(steps)

    def regions(
        self, boxes: np.ndarray, height: int, width: int, size: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the regions that are in view, moved with the pixels and clipped to the view.

        Args:
            boxes: (R, 4) x0, y0, x1, y1 in pixels of the image.
            height, width, size: see :meth:`transform`.

        Returns:
            (K, 4) float32 boxes in pixels of the view, and the K ascending indices of these regions in ``boxes``.
        """
        side = size or self.size
        moved = self.transform(height, width, size).apply_box(boxes).astype(np.float32).reshape(-1, 4)
        if self.crop is None:
            return moved, np.arange(len(moved))
        # Visibility is measured in the image's pixels, so that the same regions are in view at every size.
        x0, y0, x1, y1 = self.crop_in_pixels(height, width)
        seen = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        area, visible = (
            (b[:, 2:] - b[:, :2]).prod(axis=1) for b in (seen, seen.clip([x0, y0, x0, y0], [x1, y1, x1, y1]))
        )
        keep = np.flatnonzero(visible >= _MIN_VISIBLE * area)
        return moved[keep].clip(0, side), keep


def resize_part(image: np.ndarray, box: tuple[float, float, float, float], side: int) -> torch.Tensor:
    """Resize a part of an image to a square, antialiased, in one pass.

    The filter is a triangle as wide as an output pixel, like Pillow's ``BILINEAR`` and Detectron2's
    ``ResizeTransform``; the results differ by rounding. PyTorch is several times faster.

    Args:
        image: (H, W, 3) uint8, contiguous.
        box: x0, y0, x1, y1 in pixels of the image; may start and end between two pixels.
        side: side of the square, in pixels.

    Returns:
        (3, side, side) uint8, contiguous.
    """
    x0, y0, x1, y1 = box
    left, top = int(x0), int(y0)
    part = image[top : math.ceil(y1), left : math.ceil(x1)]
    if x0 % 1 or y0 % 1:  # PyTorch can end within a pixel, but not start there
        inside = x0 - left, y0 - top, x1 - left, y1 - top
        square = Image.fromarray(part).resize((side, side), Image.Resampling.BILINEAR, box=inside)
        return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()
    # Scale factors instead of a size, because the box may end within the last pixel. PyTorch rounds the size down.
    factors = tuple(side / length * (1 + 1e-9) for length in (y1 - y0, x1 - x0))
    pixels = torch.from_numpy(part).permute(2, 0, 1)[None]
    return F.interpolate(pixels, scale_factor=factors, mode="bilinear", antialias=True)[0].contiguous()


def _whole_pixels(low: float, high: float, length: int) -> tuple[int, int]:
    first = min(round(low * length), length - 1)
    return first, max(round(high * length), first + 1)
