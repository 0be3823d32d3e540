"""The boxes of a dataset in columns: a million of them are four arrays, and dicts where somebody asks for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

__all__ = ["BoxColumns"]


@dataclass(frozen=True)
class BoxColumns:
    """The M boxes of N records, those of the first record first.

    Attributes:
        counts: (N,) int64, boxes of each record; -1 for a record without `annotations`.
        corners: (M, 4) float64, (x0, y0, x1, y1) in pixels of the original image.
        classes: (M,) int64, class indices.
        crowd: (M,) bool, of COCO: the box is around a crowd.
        difficult: (M,) bool, of VOC.
    """

    counts: np.ndarray
    corners: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray

    @classmethod
    def of(cls, annotations: Iterable[list[dict] | None]) -> BoxColumns:
        """The columns of Detectron2's annotations of each record, None for a record that has none.

        Boxes are in `BoxMode.XYXY_ABS`; `iscrowd` and `difficult` may be missing.
        """
        lists = list(annotations)
        boxes = list(chain.from_iterable(boxes for boxes in lists if boxes is not None))
        return cls(
            np.array([-1 if boxes is None else len(boxes) for boxes in lists], dtype=np.int64),
            np.array([box["bbox"] for box in boxes], dtype=np.float64).reshape(-1, 4),
            np.array([box["category_id"] for box in boxes], dtype=np.int64),
            np.array([box.get("iscrowd", 0) for box in boxes], dtype=bool),
            np.array([box.get("difficult", 0) for box in boxes], dtype=bool),
        )

    def __post_init__(self):
        ends = np.cumsum(np.maximum(self.counts, 0))
        object.__setattr__(self, "_starts", np.concatenate([[0], ends]).astype(np.int64))

    def of_records(self, indices: Sequence[int]) -> BoxColumns:
        """The columns of some of the records."""
        rows = np.concatenate([np.arange(*self._starts[i : i + 2]) for i in indices] or [np.empty(0, np.int64)])
        columns = (column[rows] for column in (self.corners, self.classes, self.crowd, self.difficult))
        return BoxColumns(self.counts[np.asarray(indices, dtype=np.int64)], *columns)

    def box_classes(self) -> list[int]:
        """Sorted indices of the classes that have boxes."""
        return np.unique(self.classes).tolist()

    def annotations(self, index: int) -> list[dict[str, Any]] | None:
        """Detectron2's annotations of one record; None where it has none."""
        if self.counts[index] < 0:
            return None
        return list(self._dicts(slice(*self._starts[index : index + 2])))

    def __iter__(self) -> Iterator[list[dict[str, Any]] | None]:
        """The annotations of one record after the other."""
        dicts = self._dicts(slice(None))
        for count in self.counts.tolist():
            yield None if count < 0 else list(islice(dicts, count))

    def _dicts(self, part: slice) -> Iterator[dict[str, Any]]:
        columns = (self.corners[part], self.classes[part], self.crowd[part], self.difficult[part])
        for corners, class_index, crowd, difficult in zip(*(column.tolist() for column in columns), strict=True):
            yield {
                "bbox": corners,
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": class_index,
                "iscrowd": int(crowd),
                "difficult": int(difficult),
            }
