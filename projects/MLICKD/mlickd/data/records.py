"""Records with image-level labels: storage, targets, and checks that every dataset must pass."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import pickle
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from mlickd.errors import InputError, shorten_list

logger = logging.getLogger(__name__)

# A box as a row of a NumPy array: the corners in pixels, and the other values of a Detectron2 annotation.
BOX = np.dtype(
    [(name, np.float64) for name in ("x0", "y0", "x1", "y1")]
    + [(name, np.int64) for name in ("category_id", "iscrowd", "difficult")]
)


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause Python's garbage collector, which would repeatedly scan the million objects of a large dataset."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class PackedRecords(Sequence[dict]):
    """Immutable records, stored as bytes; each access returns a new dict.

    As dicts, the 82,783 records of COCO take several hundred megabytes, and a forked process copies each record that it
    accesses. Bytes are much smaller. Boxes are stored separately, because training never reads them.
    """

    def __init__(self, records: Sequence[dict], boxes: Sequence[np.ndarray | None] | None = None):
        """
        Args:
            records: N Detectron2 dataset dicts.
            boxes: one array of dtype `BOX` per record, or None if the record has no annotations. By default, made from
                ``annotations``.
        """
        if boxes is None:
            boxes = [_pack_boxes(record["annotations"]) if "annotations" in record else None for record in records]
        self._boxes = list(boxes)
        unboxed = ({key: value for key, value in record.items() if key != "annotations"} for record in records)
        self._records = [pickle.dumps(record, protocol=-1) for record in unboxed]

    def __len__(self) -> int:
        return len(self._boxes)

    def __getitem__(self, index: int) -> dict:
        record, boxes = pickle.loads(self._records[index]), self._boxes[index]
        return record if boxes is None else {**record, "annotations": _unpack_boxes(boxes)}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def select(self, indices: Sequence[int]) -> PackedRecords:
        """Return the records with the given indices, in the given order."""
        return PackedRecords([pickle.loads(self._records[i]) for i in indices], [self._boxes[i] for i in indices])

    def without_boxes(self) -> list[dict]:
        """Return all records without ``annotations``; this is fast."""
        return [pickle.loads(record) for record in self._records]


def _pack_boxes(annotations: Sequence[dict]) -> np.ndarray:
    """Return annotations with ``BoxMode.XYXY_ABS`` as an array of `BOX`."""
    rows = [(*a["bbox"], a["category_id"], a.get("iscrowd", 0), a.get("difficult", 0)) for a in annotations]
    return np.array(rows, dtype=BOX)


def _unpack_boxes(boxes: np.ndarray) -> list[dict[str, Any]]:
    mode = BoxMode.XYXY_ABS
    return [
        {"bbox": corners, "bbox_mode": mode, "category_id": label, "iscrowd": crowd, "difficult": difficult}
        for *corners, label, crowd, difficult in boxes.tolist()
    ]


@dataclass(frozen=True)
class MultiLabelDataset:
    """A split of a dataset.

    Records are Detectron2 dataset dicts with ``file_name``, ``image_id`` and ``labels``, sorted class indices. They may
    have ``ignored_labels``, ``height`` and ``width`` in pixels, and ``annotations``, which only evaluation reads.
    """

    records: PackedRecords
    class_names: list[str]
    format: str = ""  # of the files, for `check-dataset`


def label_targets(records: Sequence[dict], num_classes: int) -> np.ndarray:
    """Return the multi-hot targets of records.

    Args:
        records: N dicts with `labels` and optionally `ignored_labels`, lists of class indices. A class in both lists is
            positive. A record without `labels` raises a KeyError instead of counting as negative for all classes.
        num_classes: number C of classes.

    Returns:
        (N, C) int8: 1 if the class is in the image, 0 if it is not, -1 if it is ignored.

    Raises:
        InputError: a label is not in [0, C).
    """
    targets = np.zeros((len(records), num_classes), dtype=np.int8)
    for field, value in (("ignored_labels", -1), ("labels", 1)):
        lists = [record["labels"] if field == "labels" else record.get(field, ()) for record in records]
        rows = np.repeat(np.arange(len(records)), [len(labels) for labels in lists])
        labels = np.fromiter(chain.from_iterable(lists), dtype=np.int64, count=len(rows))
        wrong = rows[(labels < 0) | (labels >= num_classes)]
        if len(wrong):
            first = wrong[0]
            raise InputError(
                f"image {records[first].get('image_id')}: {field} {list(lists[first])} are not all in [0, {num_classes}"
                "), the indices of the classes; correct the labels or the list of classes"
            )
        targets[rows, labels] = value
    return targets


def label_lists(targets: np.ndarray) -> list[list[int]]:
    """Return the sorted column indices of the nonzero values in each row of an (N, C) array."""
    rows, columns = np.nonzero(targets)
    starts = np.searchsorted(rows, np.arange(len(targets) + 1)).tolist()
    values = columns.tolist()
    return [values[start:end] for start, end in zip(starts, starts[1:], strict=False)]


def labels_digest(records: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> str:
    """Return the SHA-256 of class names, image ids and labels in hexadecimal, whatever the order of the images."""
    images = []
    for record in records:
        labels = set(record["labels"])
        # As in the metrics, a class in both lists is positive.
        both = labels, set(record.get("ignored_labels", ())) - labels
        names = ([class_names[label] for label in sorted(indices)] for indices in both)
        images.append([str(record["image_id"]), *names])
    lines = [json.dumps(line) for line in (list(class_names), *sorted(images))]
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def check_records(records: Sequence[dict], class_names: Sequence[str], source: str) -> None:
    """Check a split before training or evaluation, and warn of classes without a positive image.

    Messages name ``source``, the file or dataset of the records.

    Raises:
        InputError: the split is empty, an image id occurs twice, or a label is not the index of a class.
    """
    if not records:
        raise InputError(f"{source}: the split is empty; list at least one image")
    (image_id, count), *_ = Counter(str(record["image_id"]) for record in records).most_common(1)
    if count > 1:
        raise InputError(f"{source}: {image_id!r} is the image id of several images; give each its own")
    try:
        positive = (label_targets(records, len(class_names)) == 1).any(axis=0)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    missing = [name for name, found in zip(class_names, positive, strict=True) if not found]
    if missing and positive.any():  # a split without any label has unlabeled photos
        names = shorten_list(missing)
        logger.warning("%s: classes without a positive image, which cannot be learned or evaluated: %s", source, names)
