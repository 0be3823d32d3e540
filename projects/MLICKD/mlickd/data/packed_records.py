"""The records of a data set as bytes: small, and shared by all processes."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence

__all__ = ["PackedRecords", "without_boxes"]


class PackedRecords:
    """Records that cannot be changed: those that come out are new dicts, equal to those that were put in.

    A hundred thousand dicts with their boxes take some hundred megabytes, and a forked process gets its own copy of
    each that it so much as looks at. Packed they are much smaller, and the boxes, which training never asks for, are
    apart.
    """

    def __init__(self, records: Sequence[dict]):
        self._length = len(records)
        self._records = pickle.dumps([without_boxes(record) for record in records], protocol=-1)
        self._boxes = pickle.dumps([record.get("annotations") for record in records], protocol=-1)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[dict]:
        return iter(self.unpack())

    def unpack(self, *, boxes: bool = True) -> list[dict]:
        """All records, with or without ``annotations``."""
        records = pickle.loads(self._records)
        if boxes:
            for record, annotations in zip(records, pickle.loads(self._boxes), strict=True):
                if annotations is not None:
                    record["annotations"] = annotations
        return records


def without_boxes(record: dict) -> dict:
    """The record without ``annotations``."""
    return {key: value for key, value in record.items() if key != "annotations"}
