"""Region proposals for one image: parameters, scaling, and the selection of the best boxes."""

import inspect
import json
import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from mlickd.errors import InputError

from .proposal_methods import PROPOSAL_METHODS
from .store import sort_proposals

# Defaults of the parameters that all methods have, see `propose`.
_COMMON = {"longer_side": 400, "min_side": 0.05, "max_proposals": 500}


def propose(
    image: np.ndarray,
    method: str = "edge_boxes",
    parameters: Mapping[str, Any] | None = None,
    *,
    image_format: str = "BGR",
) -> tuple[np.ndarray, np.ndarray]:
    """Propose regions of one image.

    All methods have these parameters:

    - ``longer_side``: the image is scaled so that its longer side has this many pixels;
    - ``min_side``: boxes with a side below this fraction of the longer side of the image are dropped;
    - ``max_proposals``: number of boxes to keep, best first.

    Args:
        image: (H, W, 3), uint8.
        method: name in `PROPOSAL_METHODS`.
        parameters: parameters that differ from the defaults of the method.
        image_format: ``BGR`` or ``RGB``.

    Returns:
        Distinct boxes (R, 4) float32 as (x0, y0, x1, y1) in pixels, inside the image, and scores (R,) float32, best
        first. If the method finds nothing, the only box is the whole image, with score 1.

    Raises:
        InputError: the method, a parameter or the format is unknown, or the image has another shape or dtype.
    """
    if image_format not in ("BGR", "RGB") or image.dtype != np.uint8 or image.shape[2:] != (3,) or 0 in image.shape:
        raise InputError(
            f"propose: the image is {image.dtype} of shape {image.shape}, image_format is {image_format!r}; give uint8 "
            "of shape (H, W, 3), and BGR or RGB"
        )
    parameters = complete_parameters(method, parameters)
    longer_side, min_side, max_proposals = (parameters.pop(name) for name in _COMMON)
    height, width = image.shape[:2]
    scale = longer_side / max(height, width)
    size = max(1, round(scale * width)), max(1, round(scale * height))
    image = image if image_format == "BGR" else image[..., ::-1]
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
    """Return all parameters of a method: the given values, and the defaults of all others.

    Raises:
        InputError: the method or a parameter is unknown, or a value has another type or is out of range.
    """
    if method not in PROPOSAL_METHODS:
        known = ", ".join(sorted(name for name, _ in PROPOSAL_METHODS))
        raise InputError(f"unknown proposal method {method}; give one of {known}")
    arguments = inspect.signature(PROPOSAL_METHODS.get(method)).parameters.values()
    complete = _COMMON | {item.name: item.default for item in arguments if item.kind is item.KEYWORD_ONLY}
    for name, value in (parameters or {}).items():
        kind = type(complete.get(name))
        kinds = (int, float) if kind is float else (kind,)
        if name not in complete or type(value) not in kinds or kind is float and not math.isfinite(value):
            raise InputError(f"{method}: parameter {name}={value!r}: give parameters and values like {complete}")
        complete[name] = kind(value)
    if not (1 <= complete["longer_side"] <= 10_000 and complete["max_proposals"] > 0 and 0 <= complete["min_side"] < 1):
        raise InputError(f"{method}: give longer_side from 1 to 10000, max_proposals >= 1 and 0 <= min_side < 1")
    return complete


def parameter_value(text: str) -> object:
    """Return the value of a parameter on a command line: parsed if it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text
