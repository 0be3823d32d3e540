"""How an image is seen: which part of it, at what size, mirrored or not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from detectron2.data import transforms as T

from .resampling import resize_part

__all__ = ["View"]

# A region of which less than this part is in view is another region there: the teacher's word on it does not hold.
_MIN_VISIBLE = 0.75


@dataclass(frozen=True)
class View:
    """A part of an image, warped to a square, mirrored or not.

    It says nothing of the image's own size, so it can be drawn before the image is read.

    Attributes:
        size: side of the square, in pixels.
        mirror: flip horizontally.
        crop: x0, y0, x1, y1 of the part that is seen, as fractions of the image's width and height; None: all of it.
    """

    size: int
    mirror: bool = False
    crop: tuple[float, float, float, float] | None = None

    def crop_in_pixels(self, height: int, width: int) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 of the part that is seen of an image of this size: whole pixels, at least one each way."""
        if self.crop is None:
            return 0, 0, width, height
        x0, x1 = _whole_pixels(self.crop[0], self.crop[2], width)
        y0, y1 = _whole_pixels(self.crop[1], self.crop[3], height)
        return x0, y0, x1, y1

    def reduction(self, height: int, width: int, size: int | None = None) -> int:
        """By how much an image of this size may be reduced, each way, before the view is taken.

        The largest of 1, 2, 4 and 8 that leaves the part that is seen no smaller than the view.

        Args:
            height, width, size: as for :meth:`transform`.
        """
        x0, y0, x1, y1 = self.crop_in_pixels(height, width)
        shorter = min(x1 - x0, y1 - y0)
        return max((factor for factor in (2, 4, 8) if shorter >= factor * (size or self.size)), default=1)

    def pixels(
        self, image: np.ndarray, height: int, width: int, size: int | None = None, reduction: int = 1
    ) -> torch.Tensor:
        """The view of an image, antialiased.

        Args:
            image: (ceil(height / reduction), ceil(width / reduction), 3) uint8, contiguous.
            height, width, size: as for :meth:`transform`.
            reduction: pixels, each way, of which the image has one.

        Returns:
            (3, side, side) uint8, contiguous.
        """
        x0, y0, x1, y1 = (edge / reduction for edge in self.crop_in_pixels(height, width))
        pixels = resize_part(image, (x0, y0, x1, y1), size or self.size)
        return pixels.flip(2) if self.mirror else pixels

    def transform(self, height: int, width: int, size: int | None = None) -> T.TransformList:
        """The transform from an image of this size to the view, for coordinates. :meth:`pixels` is faster for pixels.

        Args:
            height, width: of the image, in pixels.
            size: side of the square where it is another than the view's, for a teacher that sees the same at its size.
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
        """The regions that are in view, moved with the pixels and clipped to the view.

        Args:
            boxes: (R, 4) x0, y0, x1, y1 in pixels of the image.
            height, width, size: as for :meth:`transform`.

        Returns:
            (K, 4) float32 boxes in pixels of the view, and the K ascending indices of these regions in ``boxes``.
        """
        side = size or self.size
        moved = self.transform(height, width, size).apply_box(boxes).astype(np.float32).reshape(-1, 4)
        if self.crop is None:
            return moved, np.arange(len(moved))
        # Decided in the image's pixels, so that the same regions are in view at every size.
        x0, y0, x1, y1 = self.crop_in_pixels(height, width)
        seen = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        area, visible = (
            (b[:, 2:] - b[:, :2]).prod(axis=1) for b in (seen, seen.clip([x0, y0, x0, y0], [x1, y1, x1, y1]))
        )
        keep = np.flatnonzero(visible >= _MIN_VISIBLE * area)
        return moved[keep].clip(0, side), keep


def _whole_pixels(low: float, high: float, length: int) -> tuple[int, int]:
    first = min(round(low * length), length - 1)
    return first, max(round(high * length), first + 1)
