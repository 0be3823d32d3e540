"""Methods that propose class-agnostic regions. They do not learn from boxes of the dataset."""

import cv2
import numpy as np
from detectron2.structures import BoxMode
from fvcore.common.registry import Registry

from mlickd.errors import InputError

from .edges import gradient_edges

# Methods that propose regions, by name. A method is a deterministic function of an image (H, W, 3), uint8, BGR. Its
# parameters are keyword-only arguments with a default: a number, a string or a bool. A value out of range raises an
# InputError. The function returns boxes (R, 4) as (x0, y0, x1, y1) in pixels of the image, and scores (R,), unsorted.
PROPOSAL_METHODS = Registry("PROPOSAL_METHODS")


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
    """Propose at most 2000 regions by EdgeBoxes (Zitnick and Dollar, 2014) on gradient edges, without a model file.

    The score of a box measures the contours that are wholly inside the box, relative to its size.

    Args:
        image: (H, W, 3), uint8, BGR.
        smoothing, neighborhood, strength: see `gradient_edges`.
        alpha: overlap (IoU) of neighboring boxes of the sliding window.
        beta: overlap (IoU) above which the box with the lower score is suppressed.
        min_area: smallest area of a box, in pixels.
    """
    # Larger values overflow in OpenCV, or take hours.
    limits = smoothing / 100, neighborhood / 1000, strength, alpha / 0.75, beta / 0.99
    if not all(0 < value <= 1 for value in limits):
        raise InputError(
            "edge_boxes: give values above 0, smoothing up to 100, neighborhood up to 1000, strength up to 1, alpha up "
            "to 0.75, and beta up to 0.99"
        )
    edges = gradient_edges(image, smoothing, neighborhood, strength)
    search = cv2.ximgproc.createEdgeBoxes(alpha=alpha, beta=beta, minBoxArea=min_area, maxBoxes=2000)
    boxes, scores = search.getBoundingBoxes(*edges)
    return _corners(boxes), np.asarray(scores, dtype=np.float32).reshape(-1)


@PROPOSAL_METHODS.register()
def sliding(image: np.ndarray, *, overlap: float = 0.65, smallest: float = 0.125) -> tuple[np.ndarray, np.ndarray]:
    """Propose a fixed grid of windows of many sizes, regardless of the content: a baseline for other methods.

    The window size starts at the image size and decreases by a factor of sqrt(1/2). The windows of one size and shape
    form a grid that reaches all borders. Larger windows come first. Windows of one size and shape are sorted by their
    distance from the center. All scores are 1, which keeps this order.

    Args:
        image: (H, W, 3); only its size matters.
        overlap: lower bound of the overlap (IoU) of neighbors on the grid.
        smallest: side of the smallest window (square root of its area), as a fraction of the image side.
    """
    if not (0 <= overlap <= 0.9 and 0.05 <= smallest <= 1):
        raise InputError("sliding: give overlap between 0 and 0.9, and smallest between 0.05 and 1")
    windows = []
    scale = 1.0
    # The tolerance includes the last size if `smallest` is a power of the step.
    while scale >= smallest * (1 - 1e-9):
        for ratio in (1.0, 0.5, 2.0):  # width to height, relative to the image
            shape = np.minimum(scale * np.array([ratio**0.5, ratio**-0.5]), 1.0)
            # Two windows with sides L at a distance s have the overlap (L - s) / (L + s).
            counts = np.ceil((1 - shape) / (shape * (1 - overlap) / (1 + overlap)) - 1e-9).astype(int) + 1
            x0, y0 = (np.linspace(0, 1 - side, count) for side, count in zip(shape, counts, strict=True))
            corners = np.stack(np.meshgrid(x0, y0), axis=-1).reshape(-1, 2)
            # Rounding makes the order of windows at equal distances independent of the last bit.
            distance = np.round(np.abs(corners + shape / 2 - 0.5).max(axis=1), 9)
            corners = corners[np.argsort(distance, kind="stable")]
            windows.append(np.hstack((corners, corners + shape)))
        scale *= 0.5**0.5
    height, width = image.shape[:2]
    boxes = np.concatenate(windows) * (width, height, width, height)
    return boxes, np.ones(len(boxes), dtype=np.float32)


@PROPOSAL_METHODS.register()
def selective_search(image: np.ndarray, *, mode: str = "fast", seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Propose the regions of a hierarchical segmentation: Selective Search (Uijlings et al., 2013).

    In the paper (section 3.4), the rank of a region in the hierarchy is multiplied by a random number in [0, 1), so
    larger regions tend to come first. OpenCV does not return the hierarchy, and its order is not reproducible. This
    function uses the rank by size instead. All scores are 1, which keeps the order.

    Args:
        image: (H, W, 3), uint8, BGR.
        mode: ``single``, ``fast`` or ``quality``; later modes find more boxes and take longer.
        seed: seed of the order, 0 or more.
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


def _corners(boxes: np.ndarray) -> np.ndarray:
    boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return BoxMode.convert(boxes, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
