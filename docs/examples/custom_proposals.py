"""A custom proposal method: a box around the center of each image, and the whole image."""

import numpy as np

from mlickd.data import dataset_records, image_list_digest, proposals_path, write_store


def center_boxes(record: dict) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes (R, 4) as (x0, y0, x1, y1) in pixels, and scores (R,), higher for better boxes."""
    width, height = record["width"], record["height"]
    boxes = [[0.2 * width, 0.2 * height, 0.8 * width, 0.8 * height], [0, 0, width, height]]
    return np.array(boxes, dtype=np.float32), np.array([0.9, 0.5], dtype=np.float32)


def write_center_boxes(dataset: str) -> None:
    """Write proposals of a registered dataset, to be used with ``DATASETS.PROPOSALS.METHOD center``."""
    records = dataset_records(dataset)
    items = [(record["image_id"], *center_boxes(record)) for record in records]
    path = proposals_path(dataset, "center")
    write_store(path, items, method="center", parameters={"part": 0.6}, image_digest=image_list_digest(records))
