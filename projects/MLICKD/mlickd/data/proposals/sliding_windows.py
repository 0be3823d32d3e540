"""Windows of many sizes and places that look at nothing in the image: what every other method has to beat."""

from __future__ import annotations

import numpy as np

__all__ = ["sliding_windows"]

# Width over height of a window, relative to that of the image.
_ASPECT_RATIOS = (1.0, 0.5, 2.0)
# From one size to the next, of the square root of the area.
_SCALE_STEP = 0.5**0.5


def sliding_windows(height: int, width: int, overlap: float, smallest: float) -> np.ndarray:
    """All windows, larger ones first; of one size and shape, those nearer to the center first.

    Sizes go from that of the image down by a factor of sqrt(1/2). The windows of one size and shape lie on a grid that
    reaches all borders.

    Args:
        height, width: of the image in pixels.
        overlap: least overlap (IoU) of neighbors on the grid.
        smallest: square root of the smallest window's area, as a fraction of that of the image.

    Returns:
        (R, 4) as (x0, y0, x1, y1) in pixels, float64.
    """
    windows = []
    scale = 1.0
    # The tolerance keeps 1/2 ** (k/2) where `smallest` is meant to be that size.
    while scale >= smallest * (1 - 1e-9):
        for ratio in _ASPECT_RATIOS:
            shape = np.minimum(scale * np.array([ratio**0.5, ratio**-0.5]), 1.0)
            x0, y0 = (_places(side, overlap) for side in shape)
            corners = np.stack(np.meshgrid(x0, y0), axis=-1).reshape(-1, 2)
            # Rounded, so that the order of windows that are equally far does not hang on the last bit.
            distance = np.round(np.abs(corners + shape / 2 - 0.5).max(axis=1), 9)
            corners = corners[np.argsort(distance, kind="stable")]
            windows.append(np.hstack((corners, corners + shape)))
        scale *= _SCALE_STEP
    return np.concatenate(windows) * (width, height, width, height)


def _places(side: float, overlap: float) -> np.ndarray:
    """Where windows of this side start on a line of length 1."""
    # Two windows that are s apart overlap by (side - s) / (side + s).
    largest_step = side * (1 - overlap) / (1 + overlap)
    return np.linspace(0, 1 - side, int(np.ceil((1 - side) / largest_step - 1e-9)) + 1)
