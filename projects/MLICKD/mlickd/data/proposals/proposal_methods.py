"""Methods that propose class-agnostic regions. They are not learned, so boxes do not supervise them."""

from __future__ import annotations

import cv2
import numpy as np
from fvcore.common.registry import Registry

from mlickd.errors import InputError

from .edges import gradient_edges, structured_edges

__all__ = ["PROPOSAL_METHODS", "edge_boxes", "selective_search", "sliding", "structured_edge_boxes"]

PROPOSAL_METHODS = Registry("PROPOSAL_METHODS")
PROPOSAL_METHODS.__doc__ = """
Methods that propose regions, by name. A method is a function of an image (H, W, 3), uint8, BGR, whose keyword-only
arguments are its parameters; each has a default: a number, a string or a bool. It returns boxes (R, 4) as
(x0, y0, x1, y1) in pixels of that image and scores (R,), in any order. It must give the same result every time.
"""

# Ratios of width to height of a sliding window, relative to that of the image.
_ASPECT_RATIOS = (1.0, 0.5, 2.0)
# Factor from one size of the sliding window to the next; the size is the square root of the area.
_SCALE_STEP = 0.5**0.5


@PROPOSAL_METHODS.register()
def edge_boxes(
    image: np.ndarray,
    *,
    smoothing: float = 3.0,
    neighborhood: int = 41,
    strength: float = 0.4,
    alpha: float = 0.65,
    beta: float = 0.75,
    min_area: float = 1000.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Propose regions by EdgeBoxes (Zitnick and Dollar, 2014) on gradient edges, which need no model file.

    Args:
        image: (H, W, 3), uint8, BGR.
        smoothing, neighborhood, strength: see `gradient_edges`.
        alpha: overlap (IoU) of neighboring boxes of the sliding window.
        beta: overlap (IoU) above which the worse of two boxes is suppressed.
        min_area: smallest area of a box, in pixels.

    Returns:
        At most 2000 boxes (R, 4) and their scores (R,): the contours wholly inside the box, relative to its size.

    Raises:
        InputError: a parameter is out of range.
    """
    if min(smoothing, neighborhood, strength) <= 0:
        raise InputError("edge_boxes: give smoothing, neighborhood and strength > 0")
    return _search_edges(*gradient_edges(image, smoothing, neighborhood, strength), alpha, beta, min_area)


@PROPOSAL_METHODS.register()
def structured_edge_boxes(
    image: np.ndarray, *, model: str = "", alpha: float = 0.65, beta: float = 0.75, min_area: float = 1000.0
) -> tuple[np.ndarray, np.ndarray]:
    """Propose regions by EdgeBoxes on the edges of its publication, those of a structured forest.

    Args:
        image: (H, W, 3), uint8, BGR.
        model: path of the forest, which comes with no package; see `structured_edges`.
        alpha, beta, min_area: see `edge_boxes`.

    Returns:
        Boxes and scores as from `edge_boxes`.

    Raises:
        InputError: a parameter is out of range, or the model is missing or damaged.
    """
    return _search_edges(*structured_edges(image, model), alpha, beta, min_area)


@PROPOSAL_METHODS.register()
def sliding(image: np.ndarray, *, overlap: float = 0.65, smallest: float = 0.125) -> tuple[np.ndarray, np.ndarray]:
    """Propose windows of many sizes and places, which do not depend on the content: a baseline for other methods.

    Sizes decrease from that of the image by a factor of sqrt(1/2). The windows of one size and shape lie on a grid that
    reaches all borders.

    Args:
        image: (H, W, 3); only its size matters.
        overlap: lower bound of the overlap (IoU) of neighbors on the grid.
        smallest: square root of the smallest window's area, as a fraction of that of the image.

    Returns:
        Boxes (R, 4), larger ones first; of one size and shape, those nearer to the center first. Scores (R,) are all 1,
        so that this order is kept.

    Raises:
        InputError: a parameter is out of range.
    """
    if not 0 <= overlap <= 0.9 or not 0.05 <= smallest <= 1:
        raise InputError("sliding: give overlap between 0 and 0.9, and smallest between 0.05 and 1")
    windows = []
    scale = 1.0
    # The tolerance keeps 1/2 ** (k/2) if `smallest` is meant to be that size.
    while scale >= smallest * (1 - 1e-9):
        for ratio in _ASPECT_RATIOS:
            shape = np.minimum(scale * np.array([ratio**0.5, ratio**-0.5]), 1.0)
            x0, y0 = (_window_starts(side, overlap) for side in shape)
            corners = np.stack(np.meshgrid(x0, y0), axis=-1).reshape(-1, 2)
            # Rounded, so that the order of windows at the same distance does not depend on the last bit.
            distance = np.round(np.abs(corners + shape / 2 - 0.5).max(axis=1), 9)
            corners = corners[np.argsort(distance, kind="stable")]
            windows.append(np.hstack((corners, corners + shape)))
        scale *= _SCALE_STEP
    height, width = image.shape[:2]
    boxes = np.concatenate(windows) * (width, height, width, height)
    return boxes, np.ones(len(boxes), dtype=np.float32)


def _window_starts(side: float, overlap: float) -> np.ndarray:
    """Return the starts of windows with this side on a line of length 1."""
    # Two windows at a distance s overlap by (side - s) / (side + s).
    largest_step = side * (1 - overlap) / (1 + overlap)
    return np.linspace(0, 1 - side, int(np.ceil((1 - side) / largest_step - 1e-9)) + 1)


@PROPOSAL_METHODS.register()
def selective_search(image: np.ndarray, *, mode: str = "fast", seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Propose the regions of a hierarchical segmentation: Selective Search (Uijlings et al., 2013).

    The order is that of the paper (section 3.4), in which larger regions tend to come first: the rank of a region in
    the hierarchy is multiplied by a random number from 0 to 1. OpenCV does not return the hierarchy, so boxes are
    ranked by size. The order of OpenCV depends on the C library's random numbers, which other threads use, too.

    Args:
        image: (H, W, 3), uint8, BGR.
        mode: ``single``, ``fast`` or ``quality``, each with more boxes and slower than the one before.
        seed: seed of the order, 0 or more.

    Returns:
        Boxes (R, 4), and scores (R,) that are all 1, so that this order is kept.

    Raises:
        InputError: a parameter is out of range.
    """
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    switches = {
        "single": search.switchToSingleStrategy,
        "fast": search.switchToSelectiveSearchFast,
        "quality": search.switchToSelectiveSearchQuality,
    }
    if mode not in switches or seed < 0:
        raise InputError(f"selective_search: mode {mode!r}, seed {seed}: give single, fast or quality, and 0 or more")
    search.setBaseImage(image)
    switches[mode]()
    boxes = _corners(search.process())
    sizes = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    boxes = boxes[np.lexsort((*boxes.T, -sizes))]
    ranks = np.arange(1, len(boxes) + 1) * np.random.default_rng(seed).random(len(boxes))
    return boxes[np.argsort(ranks, kind="stable")], np.ones(len(boxes), dtype=np.float32)


def _search_edges(
    edges: np.ndarray, orientation: np.ndarray, alpha: float, beta: float, min_area: float
) -> tuple[np.ndarray, np.ndarray]:
    if not 0 < alpha < 1 or not 0 < beta < 1:
        raise InputError("EdgeBoxes: give alpha and beta between 0 and 1")
    search = cv2.ximgproc.createEdgeBoxes(alpha=alpha, beta=beta, minBoxArea=min_area, maxBoxes=2000)
    boxes, scores = search.getBoundingBoxes(edges, orientation)
    return _corners(boxes), np.asarray(scores, dtype=np.float32).reshape(-1)


def _corners(boxes: np.ndarray) -> np.ndarray:
    """Convert (x, y, width, height) to (x0, y0, x1, y1)."""
    boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes
