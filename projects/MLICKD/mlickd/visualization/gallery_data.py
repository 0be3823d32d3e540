"""What the gallery's page knows of its photos, ready for JSON."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import numpy as np

from .regions import top_regions
from .results import ImageResult

__all__ = ["first_region_threshold", "photo_data"]

# Of a photo, at most; the page has a slider for their scores.
REGIONS = 20
# The slider begins where this many regions of a photo are shown, on average, or at a higher score with fewer.
FIRST_REGIONS = 3
FIRST_SCORE = 0.1
# Places in a photo are whole numbers up to this, right and bottom edge.
EDGE = 10_000


def photo_data(result: ImageResult, class_names: Sequence[str], size: tuple[int, int]) -> dict:
    """
    Args:
        result: of one photo.
        class_names: C names.
        size: width and height of the photo in pixels.

    Returns:
        ``id``, ``width``, ``height``; ``labels``, indices of classes, or None; of each student in ``said`` what it says
        of which class, as index, score and :attr:`Prediction.verdict`, and in ``maps`` its activation maps by the index
        of the class; ``regions``, the teacher's best, as index of the class, score and x0, y0, x1, y1 from 0 to
        ``EDGE``, or None.
    """
    index = {name: number for number, name in enumerate(class_names)}
    return {
        "id": result.image_id,
        "width": size[0],
        "height": size[1],
        "labels": None if result.labels is None else [index[label] for label in result.labels],
        "said": [
            [[index[said.class_name], round(said.score, 4), said.verdict] for said in found]
            for found in result.students.values()
        ],
        "maps": [
            {index[name]: _map_data(cells) for name, cells in result.activations.get(student, {}).items()}
            for student in result.students
        ],
        "regions": None if result.regions is None else _region_data(result, size),
    }


def first_region_threshold(photos: Sequence[Mapping]) -> float:
    """The score from which on regions are shown at first, of photos as :func:`photo_data` gives them.

    Scores of WSDDN sum to an image score, so that how large they are depends on the number of proposals.
    """
    scores = sorted((region[1] for photo in photos for region in photo["regions"] or ()), reverse=True)
    if not scores:
        return FIRST_SCORE
    return min(FIRST_SCORE, scores[min(FIRST_REGIONS * len(photos), len(scores)) - 1])


def _region_data(result: ImageResult, size: tuple[int, int]) -> list[list]:
    regions = top_regions(result.regions, REGIONS)
    boxes = regions.pred_boxes.tensor.detach().cpu().numpy().astype(np.float64)
    places = np.clip(np.rint(boxes * EDGE / np.array([*size, *size])), 0, EDGE).astype(int)
    rows = zip(regions.pred_classes.tolist(), regions.scores.tolist(), places.tolist(), strict=True)
    return [[category, round(score, 4), *place] for category, score, place in rows]


def _map_data(cells: np.ndarray) -> dict:
    """A map (H, W) in 256 steps from its lowest to its highest value, row by row."""
    low, high = float(cells.min()), float(cells.max())
    steps = np.rint((cells - low) * (255.0 / (high - low) if high > low else 0.0)).astype(np.uint8)
    return {
        "height": cells.shape[0],
        "width": cells.shape[1],
        "low": round(low, 3),
        "high": round(high, 3),
        "mean": round(float(cells.mean()), 3),
        "cells": base64.b64encode(steps.tobytes()).decode(),
    }
