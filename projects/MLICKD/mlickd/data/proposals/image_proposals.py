"""Region proposals for one image: parameters, scaling, and the choice of the best boxes."""

from __future__ import annotations

import inspect
import json
import logging
import math
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import cv2
import numpy as np
from detectron2.config import CfgNode

from mlickd.errors import InputError

from .edges import model_digest
from .proposal_methods import PROPOSAL_METHODS
from .store import ProposalStore, proposals_path, sort_proposals

__all__ = ["build_proposer", "complete_parameters", "parameter_value", "propose", "recorded_parameters"]

logger = logging.getLogger(__name__)

# Parameters that all methods have, see `propose`.
_COMMON = {"longer_side": 400, "min_side": 0.05, "max_proposals": 500}


def propose(
    image: np.ndarray,
    method: str = "edge_boxes",
    parameters: Mapping[str, Any] | None = None,
    *,
    image_format: str = "BGR",
) -> tuple[np.ndarray, np.ndarray]:
    """Propose regions of one image.

    The parameters that all methods have:

    - ``longer_side``: pixels to which the image is scaled first, so that the time does not depend on the camera;
    - ``min_side``: boxes with a side below this fraction of the image's longer side are left out;
    - ``max_proposals``: number of boxes to keep, best first.

    Args:
        image: (H, W, 3), uint8.
        method: name in `PROPOSAL_METHODS`.
        parameters: those that differ from the method's defaults.
        image_format: ``BGR`` or ``RGB``.

    Returns:
        Boxes (R, 4) float32 as (x0, y0, x1, y1) in pixels of the image, inside it, and scores (R,) float32: best
        first, no box twice. If the method finds nothing, the only box is the whole image, with score 1.

    Raises:
        InputError: an unknown method, parameter or format, or another kind of array.
    """
    if image_format not in ("BGR", "RGB"):
        raise InputError(f"propose: image_format is {image_format!r}; give BGR or RGB")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(f"propose: the image is {image.dtype} of shape {image.shape}; give uint8 of shape (H, W, 3)")
    parameters = complete_parameters(method, parameters)
    longer_side, min_side, max_proposals = (parameters.pop(name) for name in _COMMON)
    height, width = image.shape[:2]
    scale = longer_side / max(height, width)
    size = max(1, round(scale * width)), max(1, round(scale * height))
    # OpenCV takes no array with negative strides.
    image = np.ascontiguousarray(image if image_format == "BGR" else image[..., ::-1])
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
    """Return all parameters of a method: the given ones over its defaults.

    Raises:
        InputError: an unknown method or parameter, or a value of another type or out of range.
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
    if complete["longer_side"] < 1 or complete["max_proposals"] < 1 or not 0 <= complete["min_side"] < 1:
        raise InputError(f"{method}: give longer_side >= 1, max_proposals >= 1 and 0 <= min_side < 1")
    return complete


def recorded_parameters(method: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return all parameters as a store records them: a model file by the digest of its content, not by its path.

    Raises:
        InputError: see `complete_parameters`; or a model file is missing.
    """
    complete = complete_parameters(method, parameters)
    if "model" in complete:
        complete["model"] = model_digest(complete["model"])
    return complete


def parameter_value(text: str) -> object:
    """Return the value of a parameter on a command line: parsed if it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def build_proposer(cfg: CfgNode) -> partial:
    """Return :func:`propose` with the method and the parameters that the model was trained with.

    The parameters are those of the first store of DATASETS.TRAIN that exists, else the defaults of
    DATASETS.PROPOSALS.METHOD, with a warning.

    Raises:
        InputError: the proposals were imported, or their method needs a model file, of which a store has only the
            digest; or a parameter is no longer known.
    """
    method, parameters = cfg.DATASETS.PROPOSALS.METHOD, {}
    paths = cfg.DATASETS.PROPOSALS.TRAIN_FILES or [proposals_path(name, method) for name in cfg.DATASETS.TRAIN]
    found = next((path for path in paths if os.path.exists(path)), None)
    if found is not None:
        header = ProposalStore.open(found).header
        method, parameters = header["method"], header["parameters"]
    else:
        text = "%s: not found; proposals of other photos are made with the defaults of %s, not as for training"
        logger.warning(text, ", ".join(map(str, paths)), method)
    if method not in PROPOSAL_METHODS or "model" in complete_parameters(method, parameters):
        raise InputError(
            f"DATASETS.PROPOSALS.METHOD {method}: comes from a file, or needs a model file, so that it cannot propose "
            "regions of other photos; make a store for them with tools/generate_proposals.py or "
            "tools/convert_proposals.py, or set another METHOD"
        )
    logger.info("Proposals of %s are made now", method)
    return partial(propose, method=method, parameters=parameters)
