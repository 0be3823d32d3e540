"""Edges of an image from its gradients alone: no model file, and nothing that was learned from boxes."""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["gradient_edges"]

# Edge strengths are relative to this quantile of an image's.
_STRONG_QUANTILE = 0.99
# Added to the mean gradient of a neighborhood, so that noise in flat regions does not become an edge. As the
# gradients: change per pixel of channels that run from 0 to 1.
_FAINT_GRADIENT = 0.02


def gradient_edges(
    image: np.ndarray, smoothing: float, neighborhood: int, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Thin edges and their orientations, as EdgeBoxes takes them.

    The gradient of the Lab image is that of Di Zenzo (1986): the direction in which the color changes most, over all
    channels together. It is divided by its mean over a neighborhood, which leaves little of texture and brings out
    the contours of objects in low contrast, and thinned to its maxima across the edge (Canny, 1986).

    Args:
        image: (H, W, 3), uint8, BGR.
        smoothing: standard deviation, in pixels, of the Gaussian that blurs fine texture before.
        neighborhood: side, in pixels, of the square of the mean.
        strength: of a strong edge (the 99th percentile of the image) in what is returned.

    Returns:
        Strengths (H, W) in [0, 1] and directions (H, W) of the edges' normals in [0, pi), float32.
    """
    lab = cv2.cvtColor(image, cv2.COLOR_BGR2LAB).astype(np.float32) / 255
    lab = cv2.GaussianBlur(lab, (0, 0), smoothing)
    dx = cv2.Sobel(lab, cv2.CV_32F, 1, 0, scale=0.25)
    dy = cv2.Sobel(lab, cv2.CV_32F, 0, 1, scale=0.25)
    xx, yy, xy = (cv2.transform(product, np.ones((1, 3))) for product in (dx * dx, dy * dy, dx * dy))
    difference, anisotropy = xx - yy, 2 * xy
    gradient = cv2.sqrt((xx + yy + cv2.magnitude(difference, anisotropy)) / 2)
    orientation = cv2.phase(difference, anisotropy) / 2

    window = (neighborhood, neighborhood)
    gradient /= cv2.blur(cv2.blur(gradient, window), window) + _FAINT_GRADIENT
    strong = float(np.quantile(gradient, _STRONG_QUANTILE))
    if strong > 0:
        gradient *= strength / strong
    return np.minimum(_thin(gradient, orientation), 1), orientation


def _thin(gradient: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    """Zero wherever the gradient one pixel ahead or behind, along the normal, is larger."""
    height, width = gradient.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    dx, dy = cv2.polarToCart(np.ones_like(orientation), orientation)
    ahead = cv2.remap(gradient, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    behind = cv2.remap(gradient, x - dx, y - dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.where((gradient >= ahead) & (gradient >= behind), gradient, np.float32(0))
