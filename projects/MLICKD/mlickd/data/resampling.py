"""A part of a picture at another size, antialiased, in one pass."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

__all__ = ["resize_part"]


def resize_part(image: np.ndarray, box: tuple[float, float, float, float], side: int) -> torch.Tensor:
    """Resize a part of an image to a square.

    A triangle as wide as an output pixel weights the input, as Pillow's ``BILINEAR`` does, and with it Detectron2's
    ``ResizeTransform``; the two differ by rounding. PyTorch's is several times faster.

    Args:
        image: (H, W, 3) uint8, contiguous.
        box: x0, y0, x1, y1 in its pixels; it may begin and end between two.
        side: of the square, in pixels.

    Returns:
        (3, side, side) uint8, contiguous.
    """
    x0, y0, x1, y1 = box
    left, top = int(x0), int(y0)
    part = image[top : math.ceil(y1), left : math.ceil(x1)]
    if x0 % 1 or y0 % 1:  # PyTorch can end within a pixel, but not begin there
        inside = x0 - left, y0 - top, x1 - left, y1 - top
        square = Image.fromarray(part).resize((side, side), Image.Resampling.BILINEAR, box=inside)
        return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()
    # By factors, not by the size, because the box may end before the last pixel does. The size is rounded down.
    factors = tuple(side / length * (1 + 1e-9) for length in (y1 - y0, x1 - x0))
    pixels = torch.from_numpy(part).permute(2, 0, 1)[None]
    return F.interpolate(pixels, scale_factor=factors, mode="bilinear", antialias=True)[0].contiguous()
