"""Class-agnostic region proposals for one image. They are not learned, so no box supervises them."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from fvcore.common.registry import Registry

from mlickd.errors import InputError

from .edge_map import gradient_edges
from .sliding_windows import sliding_windows
from .store import sort_proposals
from .structured_edges import model_digest, structured_edges

__all__ = [
    "PROPOSAL_METHODS",
    "complete_parameters",
    "edge_boxes",
    "propose",
    "proposals_for_image",
    "recorded_parameters",
    "selective_search",
    "sliding",
    "structured_edge_boxes",
]

PROPOSAL_METHODS = Registry("PROPOSAL_METHODS")
PROPOSAL_METHODS.__doc__ = """
Ways to propose regions, by name. A method is a function of an image (H, W, 3), uint8, BGR, whose keyword-only arguments
are its parameters; each has a default: a number, a string or a bool. It returns boxes (R, 4) as (x0, y0, x1, y1) in
pixels of that image and scores (R,), in any order. It must give the same result every time.
"""

# Parameters that all methods have, see `proposals_for_image`.
_COMMON = {"longer_side": 400, "min_side": 0.05, "max_proposals": 500}


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
    """EdgeBoxes (Zitnick and Dollar, 2014) on gradient edges, which need no model file.

    Args:
        image: (H, W, 3), uint8, BGR.
        smoothing, neighborhood, strength: see `gradient_edges`.
        alpha: overlap (IoU) of neighboring boxes of the sliding window.
        beta: overlap (IoU) above which the worse of two boxes is suppressed.
        min_area: of a box, in pixels.

    Returns:
        At most 2000 boxes (R, 4) and their scores (R,): the contours wholly inside the box, relative to its size.

    Raises:
        InputError: a parameter is out of range.
    """
    if min(smoothing, neighborhood, strength) <= 0 or not 0 < alpha < 1 or not 0 < beta < 1:
        raise InputError("edge_boxes: give smoothing, neighborhood and strength > 0, alpha and beta between 0 and 1")
    return _search_edges(*gradient_edges(image, smoothing, neighborhood, strength), alpha, beta, min_area)


@PROPOSAL_METHODS.register()
def structured_edge_boxes(
    image: np.ndarray, *, model: str = "", alpha: float = 0.65, beta: float = 0.75, min_area: float = 1000.0
) -> tuple[np.ndarray, np.ndarray]:
    """EdgeBoxes on the edges that it was published with, those of a structured forest. Its file comes with no package.

    Args:
        image: (H, W, 3), uint8, BGR.
        model: path of the forest, see `structured_edges`.
        alpha, beta, min_area: see `edge_boxes`.

    Returns:
        As `edge_boxes`.

    Raises:
        InputError: a parameter is out of range, or the model is missing or damaged.
    """
    if not 0 < alpha < 1 or not 0 < beta < 1:
        raise InputError("structured_edge_boxes: give alpha and beta between 0 and 1")
    return _search_edges(*structured_edges(image, model), alpha, beta, min_area)


@PROPOSAL_METHODS.register()
def sliding(image: np.ndarray, *, overlap: float = 0.65, smallest: float = 0.125) -> tuple[np.ndarray, np.ndarray]:
    """Windows of many sizes and places: the baseline.

    Args:
        image: (H, W, 3), of which the size alone counts.
        overlap, smallest: see `sliding_windows`.

    Returns:
        Boxes (R, 4), larger ones first, and scores (R,) that are all 1, because nothing tells them apart: their order
        is kept.

    Raises:
        InputError: a parameter is out of range.
    """
    if not 0 <= overlap <= 0.9 or not 0.05 <= smallest <= 1:
        raise InputError("sliding: give overlap between 0 and 0.9, and smallest between 0.05 and 1")
    boxes = sliding_windows(*image.shape[:2], overlap, smallest)
    return boxes, np.ones(len(boxes), dtype=np.float32)


@PROPOSAL_METHODS.register()
def selective_search(image: np.ndarray, *, mode: str = "fast", seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Selective Search (Uijlings et al., 2013): regions of a hierarchical segmentation.

    Args:
        image: (H, W, 3), uint8, BGR.
        mode: ``single``, ``fast`` or ``quality``: ever more boxes, ever slower.
        seed: of the order, 0 or more.

    Returns:
        Boxes (R, 4), and scores (R,) that are all 1, because the method has none: the order of `_shuffled` is kept.

    Raises:
        InputError: a parameter is out of range.
    """
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(image)
    if mode == "single":
        search.switchToSingleStrategy()
    elif mode == "fast":
        search.switchToSelectiveSearchFast()
    elif mode == "quality":
        search.switchToSelectiveSearchQuality()
    else:
        raise InputError(f"selective_search: mode is {mode!r}; give single, fast or quality")
    if seed < 0:
        raise InputError(f"selective_search: seed is {seed}; give 0 or more")
    boxes = _shuffled(_corners(search.process()), seed)
    return boxes, np.ones(len(boxes), dtype=np.float32)


def _shuffled(boxes: np.ndarray, seed: int) -> np.ndarray:
    """Boxes (R, 4), in whatever order, in the one of the paper (section 3.4): larger ones tend to come first.

    A region's place in the hierarchy, from 1 for the whole image, is multiplied by a random number from 0 to 1. OpenCV
    does not tell the place, for which the order by size stands here. Its own order puts small regions first, and hangs
    on the C library's random numbers, of which any other thread of the process may take some meanwhile.
    """
    sizes = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    boxes = boxes[np.lexsort((*boxes.T, -sizes))]
    ranks = np.arange(1, len(boxes) + 1) * np.random.default_rng(seed).random(len(boxes))
    return boxes[np.argsort(ranks, kind="stable")]


def propose(
    image: np.ndarray,
    method: str = "edge_boxes",
    parameters: Mapping[str, Any] | None = None,
    *,
    image_format: str = "BGR",
) -> tuple[np.ndarray, np.ndarray]:
    """Propose regions of one photo: the same as a store has that is made with these parameters.

    Args:
        image: (H, W, 3), uint8.
        method, parameters: see `proposals_for_image`.
        image_format: ``BGR`` or ``RGB``.

    Returns:
        Boxes (R, 4) and scores (R,), see `proposals_for_image`.

    Raises:
        InputError: unknown method, parameter or format, or no such image.
    """
    if image_format not in ("BGR", "RGB"):
        raise InputError(f"propose: image_format is {image_format!r}; give BGR or RGB")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(f"propose: the image is {image.dtype} of shape {image.shape}; give uint8 of shape (H, W, 3)")
    if image_format == "RGB":
        image = image[..., ::-1]
    # OpenCV takes no array with negative strides.
    return proposals_for_image(np.ascontiguousarray(image), method, parameters)


def proposals_for_image(
    image: np.ndarray, method: str = "edge_boxes", parameters: Mapping[str, Any] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Propose regions of one image.

    The parameters that all methods have:

    - ``longer_side``: pixels that the image is scaled to before, so that the time does not depend on the camera;
    - ``min_side``: boxes with a side below this fraction of the image's longer side are left out;
    - ``max_proposals``: the best are kept.

    Args:
        image: (H, W, 3), uint8, BGR.
        method: name in `PROPOSAL_METHODS`.
        parameters: those that differ from the method's defaults.

    Returns:
        Boxes (R, 4) float32 as (x0, y0, x1, y1) in pixels of the image, inside it, and scores (R,) float32: best
        first, no box twice. Where the method finds nothing there is one box: the whole image, with score 1.

    Raises:
        InputError: unknown method or parameter.
    """
    parameters = complete_parameters(method, parameters)
    longer_side, min_side, max_proposals = (parameters.pop(name) for name in _COMMON)
    height, width = image.shape[:2]
    scale = longer_side / max(height, width)
    size = max(1, round(scale * width)), max(1, round(scale * height))
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    boxes, scores = PROPOSAL_METHODS.get(method)(resized, **parameters)

    limits = np.array([width, height, width, height], dtype=np.float64)
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * (limits / (size * 2))
    boxes = np.clip(boxes, 0, limits).astype(np.float32)
    sides = boxes[:, 2:] - boxes[:, :2]
    keep = (sides >= min_side * max(height, width)).all(axis=1) & (sides > 0).all(axis=1)
    boxes, scores = sort_proposals(boxes[keep], np.asarray(scores)[keep])
    if not len(boxes):
        return np.array([[0, 0, width, height]], dtype=np.float32), np.ones(1, dtype=np.float32)
    return boxes[:max_proposals], scores[:max_proposals]


def complete_parameters(method: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All parameters of a method: the given ones over its defaults.

    Raises:
        InputError: unknown method or parameter, or a value of another type or out of range.
    """
    if method not in PROPOSAL_METHODS:
        known = ", ".join(sorted(name for name, _ in PROPOSAL_METHODS))
        raise InputError(f"unknown proposal method {method}; give one of {known}")
    signature = inspect.signature(PROPOSAL_METHODS.get(method))
    own = {name: argument.default for name, argument in list(signature.parameters.items())[1:]}
    complete = {**_COMMON, **own}
    for name, value in (parameters or {}).items():
        if name not in complete:
            raise InputError(f"{method}: unknown parameter {name}; give one of {', '.join(complete)}")
        kind = type(complete[name])
        number = kind is float and type(value) is int
        if not number and type(value) is not kind or kind is float and not math.isfinite(value):
            raise InputError(f"{method}: parameter {name} is {value!r}; give a value like {complete[name]!r}")
        complete[name] = kind(value)
    if complete["longer_side"] < 1 or complete["max_proposals"] < 1 or not 0 <= complete["min_side"] < 1:
        raise InputError(f"{method}: give longer_side >= 1, max_proposals >= 1 and 0 <= min_side < 1")
    return complete


def recorded_parameters(method: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All parameters as a store records them: of a model file its content counts, not its path.

    Raises:
        InputError: as `complete_parameters`, or a model file is missing.
    """
    complete = complete_parameters(method, parameters)
    if "model" in complete:
        complete["model"] = model_digest(complete["model"])
    return complete


def _search_edges(
    edges: np.ndarray, orientation: np.ndarray, alpha: float, beta: float, min_area: float
) -> tuple[np.ndarray, np.ndarray]:
    search = cv2.ximgproc.createEdgeBoxes(alpha=alpha, beta=beta, minBoxArea=min_area, maxBoxes=2000)
    boxes, scores = search.getBoundingBoxes(edges, orientation)
    return _corners(boxes), np.asarray(scores, dtype=np.float32).reshape(-1)


def _corners(boxes: np.ndarray) -> np.ndarray:
    """(x, y, width, height) to (x0, y0, x1, y1)."""
    boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def parameter_value(text: str) -> object:
    """The value of a parameter as it is typed on a command line: JSON where it is that, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text
