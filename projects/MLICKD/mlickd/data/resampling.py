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
    if x0 % 1 or y0 % 1:  # PyTorch can end within a pixel, but not begin there
        square = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR, box=box)
        return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()
    part = torch.from_numpy(image[int(y0) : math.ceil(y1), int(x0) : math.ceil(x1)])
    # By factors, not by the size, because the box may end before the last pixel does. The size is rounded down.
    factors = tuple(side / length * (1 + 1e-9) for length in (y1 - y0, x1 - x0))
    square = F.interpolate(part.permute(2, 0, 1)[None], scale_factor=factors, mode="bilinear", antialias=True)
    return square[0].contiguous()
