"""The records of a dataset as bytes: small, and shared by all processes."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np

from .box_columns import BoxColumns

__all__ = ["PackedRecords", "without_boxes"]


class PackedRecords(Sequence[dict]):
    """Records that cannot be changed: those that come out are new dicts, equal to those that were put in.

    A hundred thousand dicts with their boxes take some hundred megabytes, and a forked process gets its own copy of
    each that it so much as looks at. Packed they are much smaller, and the boxes, which training never asks for, are
    apart.
    """

    def __init__(self, records: Sequence[dict], boxes: BoxColumns | None = None):
        """
        Args:
            records: Detectron2 dataset dicts.
            boxes: of the records, where they are not in their ``annotations``.
        """
        self._boxes = BoxColumns.of(record.get("annotations") for record in records) if boxes is None else boxes
        packed = [pickle.dumps(without_boxes(record), protocol=-1) for record in records]
        self._bytes = b"".join(packed)
        self._starts = np.fromiter(accumulate(map(len, packed), initial=0), dtype=np.int64)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> dict:
        index = range(len(self))[index]
        record = pickle.loads(self._bytes[self._starts[index] : self._starts[index + 1]])
        return _with_boxes(record, self._boxes.annotations(index))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __iter__(self) -> Iterator[dict]:
        return map(_with_boxes, self.without_boxes(), self._boxes)

    def part(self, indices: Sequence[int]) -> PackedRecords:
        """Some of the records, in the order of ``indices``."""
        return PackedRecords(
            [pickle.loads(self._bytes[self._starts[i] : self._starts[i + 1]]) for i in indices],
            self._boxes.of_records(indices),
        )

    def without_boxes(self) -> list[dict]:
        """All records without ``annotations``: quick, for no box is looked at."""
        starts = self._starts.tolist()
        return [pickle.loads(self._bytes[first:last]) for first, last in zip(starts, starts[1:], strict=False)]


def without_boxes(record: dict) -> dict:
    """The record without ``annotations``."""
    return {key: value for key, value in record.items() if key != "annotations"}


def _with_boxes(record: dict, annotations: list[dict] | None) -> dict:
    return record if annotations is None else {**record, "annotations": annotations}
