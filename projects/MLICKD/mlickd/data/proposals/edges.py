"""Edges of an image, the input of EdgeBoxes. Box annotations of the dataset are not used."""

import cv2
import numpy as np

# Added to the mean gradient of a neighborhood, so that noise in flat regions does not become an edge. The unit is the
# change per pixel of a channel in [0, 1].
_FAINT_GRADIENT = 0.02


def gradient_edges(
    image: np.ndarray, smoothing: float, neighborhood: int, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Compute thin edges and their orientations from gradients, without a model file.

    The color gradient of the Lab image (Di Zenzo, 1986) points in the direction of the largest joint change of all
    channels. It is divided by its mean over a neighborhood, which suppresses texture and amplifies contours of low
    contrast. It is then thinned by non-maximum suppression along the gradient (Canny, 1986).

    Args:
        image: (H, W, 3), uint8, BGR.
        smoothing: standard deviation, in pixels, of the Gaussian blur that removes fine texture.
        neighborhood: side, in pixels, of the square neighborhood of the mean.
        strength: value to which the 99th percentile of the gradient is scaled.

    Returns:
        Strengths (H, W) in [0, 1] and directions (H, W) of the edge normals in [0, pi), float32.
    """
    lab = cv2.cvtColor(image, cv2.COLOR_BGR2LAB).astype(np.float32) / 255
    lab = cv2.GaussianBlur(lab, (0, 0), smoothing)
    dx = cv2.Sobel(lab, cv2.CV_32F, 1, 0, scale=0.25)
    dy = cv2.Sobel(lab, cv2.CV_32F, 0, 1, scale=0.25)
    xx, yy, xy = (cv2.transform(product, np.ones((1, 3))) for product in (dx * dx, dy * dy, dx * dy))
    difference, double_xy = xx - yy, 2 * xy
    gradient = cv2.sqrt((xx + yy + cv2.magnitude(difference, double_xy)) / 2)
    orientation = cv2.phase(difference, double_xy) / 2
    window = (neighborhood, neighborhood)
    gradient /= cv2.blur(cv2.blur(gradient, window), window) + _FAINT_GRADIENT
    strong = float(np.quantile(gradient, 0.99))
    if strong > 0:
        gradient *= strength / strong
    return np.minimum(_thin(gradient, orientation), 1), orientation


def _thin(gradient: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    """Set a gradient to zero if a neighbor along the normal, one pixel ahead or behind, is larger."""
    height, width = gradient.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    dx, dy = cv2.polarToCart(np.ones_like(orientation), orientation)
    ahead = cv2.remap(gradient, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    behind = cv2.remap(gradient, x - dx, y - dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.where((gradient >= ahead) & (gradient >= behind), gradient, np.float32(0))
