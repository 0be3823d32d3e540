"""Views of an image: the visible part, the size, and mirroring."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from mlickd.decoding import RecordImage, max_reduction

# If less than this fraction of a region is in view, the region is left out, because its scores describe the whole
# region.
_MIN_VISIBLE = 0.75


@dataclass(frozen=True)
class View:
    """A part of an image, warped to a square, and possibly mirrored.

    A view does not depend on the size of the image, so it can be chosen before the image is read.

    Attributes:
        size: side of the square, in pixels.
        mirror: whether the view is flipped horizontally.
        crop: x0, y0, x1, y1 of the visible part, as fractions of width and height; None for the whole image.
    """

    size: int
    mirror: bool = False
    crop: tuple[float, float, float, float] | None = None

    def crop_in_pixels(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return x0, y0, x1, y1 of the visible part in whole pixels of an image; each side is at least one pixel."""
        if self.crop is None:
            return 0, 0, width, height
        x0, x1 = _whole_pixels(self.crop[0], self.crop[2], width)
        y0, y1 = _whole_pixels(self.crop[1], self.crop[3], height)
        return x0, y0, x1, y1

    def pixels(self, image: RecordImage) -> torch.Tensor:
        """Return the pixels of the view of an image, (3, size, size) uint8, resized with antialiasing."""
        x0, y0, x1, y1 = self.crop_in_pixels(image.height, image.width)
        pixels, reduction = image.decode(max_reduction(y1 - y0, x1 - x0, self.size))
        box = x0 / reduction, y0 / reduction, x1 / reduction, y1 / reduction
        view = resize_part(pixels, box, self.size)
        return view.flip(2) if self.mirror else view

    def regions(self, boxes: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the regions in view, transformed like the pixels. With a crop, they are clipped to the view.

        Args:
            boxes: (R, 4) x0, y0, x1, y1 in pixels of the image.
            height, width: size of the image, in pixels.

        Returns:
            (K, 4) float32 boxes in pixels of the view, and the K ascending indices of their rows in ``boxes``.
        """
        side = self.size
        x0, y0, x1, y1 = self.crop_in_pixels(height, width)
        seen = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        moved = (seen - [x0, y0, x0, y0]) * ([side / (x1 - x0), side / (y1 - y0)] * 2)
        if self.mirror:
            moved[:, [0, 2]] = side - moved[:, [2, 0]]
        moved = moved.astype(np.float32)
        if self.crop is None:
            return moved, np.arange(len(moved))
        # Visibility is measured in the image's pixels, so that the same regions are in view at every size.
        area, visible = (
            (b[:, 2:] - b[:, :2]).prod(axis=1) for b in (seen, seen.clip([x0, y0, x0, y0], [x1, y1, x1, y1]))
        )
        keep = np.flatnonzero(visible >= _MIN_VISIBLE * area)
        return moved[keep].clip(0, side), keep


def resize_part(image: np.ndarray, box: tuple[float, float, float, float], side: int) -> torch.Tensor:
    """Resize a part of an image to a square, antialiased, in one pass.

    The filter is a triangle over two pixels of the output, or of the input if the part is enlarged, as in Pillow's
    ``BILINEAR`` and Detectron2's ``ResizeTransform``. The results differ only by rounding, and PyTorch is several times
    faster.

    Args:
        image: (H, W, 3) uint8, contiguous.
        box: x0, y0, x1, y1 in pixels of the image; they may be fractions.
        side: side of the square, in pixels.

    Returns:
        (3, side, side) uint8, contiguous.
    """
    x0, y0, x1, y1 = box
    left, top = int(x0), int(y0)
    part = image[top : math.ceil(y1), left : math.ceil(x1)]
    if x0 % 1 or y0 % 1:  # PyTorch can end, but not start, within a pixel
        inside = x0 - left, y0 - top, x1 - left, y1 - top
        square = Image.fromarray(part).resize((side, side), Image.Resampling.BILINEAR, box=inside)
        return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()
    # Give scale factors, not a size, because the box may end within a pixel. 1e-9: PyTorch rounds the size down.
    factors = tuple(side / length * (1 + 1e-9) for length in (y1 - y0, x1 - x0))
    pixels = torch.from_numpy(part).permute(2, 0, 1)[None]
    return F.interpolate(pixels, scale_factor=factors, mode="bilinear", antialias=True)[0].contiguous()


def _whole_pixels(low: float, high: float, length: int) -> tuple[int, int]:
    first = min(round(low * length), length - 1)
    return first, max(round(high * length), first + 1)
