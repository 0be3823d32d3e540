"""Edges of an image from a structured forest (Dollar and Zitnick, 2013), where the user has its model file."""

from __future__ import annotations

import functools
import hashlib
import os

import cv2
import numpy as np

from mlickd.errors import InputError

__all__ = ["model_digest", "structured_edges"]

# Of the model file; what OpenCV divides by, and the trees.
_OPTIONS = ("numberOfTrees", "numberOfTreesToEvaluate", "patchSize", "patchInnerSize", "shrinkNumber", "stride")
_TABLES = ("childs", "featureIds", "thresholds", "edgeBoundaries", "edgeBins")


def structured_edges(image: np.ndarray, model: str) -> tuple[np.ndarray, np.ndarray]:
    """Thin edges and their orientations, as EdgeBoxes takes them.

    Args:
        image: (H, W, 3), uint8, BGR.
        model: path of a forest in the format of `cv2.ximgproc` (``model.yml.gz`` of OpenCV's extra test data).

    Returns:
        Strengths (H, W) and directions (H, W) of the edges' normals in radians, float32.

    Raises:
        InputError: the file is missing or holds no such forest.
    """
    forest = _load(model)
    edges = forest.detectEdges(cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.float32) / 255)
    orientation = forest.computeOrientation(edges)
    return forest.edgesNms(edges, orientation), orientation


def model_digest(model: str) -> str:
    """What stands for a model in a store: its content, whatever it is called.

    Raises:
        InputError: the file is missing.
    """
    try:
        with open(model, "rb") as file:
            return f"sha256:{hashlib.sha256(file.read()).hexdigest()}"
    except OSError as error:
        raise _missing(model, error.strerror) from error


@functools.lru_cache(maxsize=1)
def _load(model: str) -> cv2.ximgproc.StructuredEdgeDetection:
    if not os.path.isfile(model):
        raise _missing(model, "no such file")
    try:
        # OpenCV itself does not look: a part that is missing would end the process.
        storage = cv2.FileStorage(model, cv2.FILE_STORAGE_READ)
        options = storage.getNode("options")
        absent = [name for name in _OPTIONS if not options.getNode(name).isInt() or options.getNode(name).real() < 1]
        absent += [name for name in _TABLES if not storage.getNode(name).isSeq() or not storage.getNode(name).size()]
        storage.release()
        if not absent:
            return cv2.ximgproc.createStructuredEdgeDetection(model)
        problem = f"without {', '.join(absent)}"
    except (cv2.error, SystemError) as error:
        problem = str(getattr(error, "err", error))
    raise InputError(f"{model}: no structured forest ({problem}); give one such as OpenCV's model.yml.gz")


def _missing(model: str, problem: str | None) -> InputError:
    return InputError(
        f"structured_edge_boxes: model {model!r}: {problem}; give the path of a structured forest such as OpenCV's "
        "model.yml.gz, or take the method edge_boxes, which needs none"
    )
