"""Inputs and slow reference functions for tests of metrics."""

import numpy as np
from detectron2.structures import BoxMode
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


@st.composite
def score_problems(draw, max_images=9, max_classes=4, levels=8):
    """Draw scores from 0 to 1 and targets of the same shape (images, classes). Scores often tie."""
    shape = draw(st.integers(1, max_images)), draw(st.integers(1, max_classes))
    scores = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, levels))) / levels
    return scores, draw(hnp.arrays(np.int8, shape, elements=st.sampled_from((-1, 0, 1))))


def annotation(box: list[float], class_index: int = 0, mode: BoxMode = BoxMode.XYXY_ABS, **flags: int) -> dict:
    """Return an annotated object of a record."""
    return {"bbox": box, "bbox_mode": mode, "category_id": class_index} | flags


def slow_iou(a, b) -> float:
    """Return the intersection over union of two boxes (x0, y0, x1, y1)."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)
