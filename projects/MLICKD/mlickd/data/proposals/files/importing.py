"""From proposals in whatever file to a store: matched to the images of a dataset, and checked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from mlickd.data.images import image_size
from mlickd.errors import InputError

from ..generation import image_list_digest
from ..store import write_store

__all__ = ["ImportCounts", "import_proposals"]

# Pixels by which a box may leave its image, and is clipped: programs round.
_BORDER_TOLERANCE = 2.0


@dataclass
class ImportCounts:
    """What an import came across.

    Attributes:
        images, boxes: that are in the store, before equal boxes of an image become one.
        other_images: in the file, but not in the dataset.
        example: the name of one of these.
        empty_boxes: left out, because they have no area.
    """

    images: int = 0
    boxes: int = 0
    other_images: int = 0
    example: str = ""
    empty_boxes: int = 0


def import_proposals(
    proposals: Iterable[tuple[str, np.ndarray, np.ndarray | None]],
    records: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    source: str,
    method: str,
    parameters: Mapping[str, Any],
    side: float | None = None,
) -> ImportCounts:
    """Write a store of the proposals for the images of a dataset.

    An image is matched by its id, else by its file name with as many folders as there are in both, with or without
    extension.

    Args:
        proposals: name of the image, boxes (R, 4) as (x0, y0, x1, y1), and scores (R,). Without scores all are 1, and
            the order is kept.
        records: of the dataset. Where one has no size, its image is asked.
        path: of the store.
        source: what to name in messages.
        method, parameters: for the header of the store.
        side: boxes are in pixels of the image warped to a square of this side, not in those of the image.

    Raises:
        InputError: an image of the dataset has no proposals, or twice; a name fits several images; a box is not
            finite, inverted or outside its image. No store is written then.
    """
    counts = ImportCounts()
    finder = _ImageFinder(records, source)

    def items() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Image id, boxes (R, 4) and scores (R,) of each image of the dataset, in original pixels."""
        done: dict[int, str] = {}
        for name, boxes, scores in proposals:
            index = finder.find(name)
            if index is None:
                counts.other_images += 1
                counts.example = counts.example or name
                continue
            if index in done:
                raise InputError(f"{source}: {name} and {done[index]} are the same image; remove one")
            done[index] = name
            record = records[index]
            boxes, scores = _check(boxes, scores, record, f"{source}: image {name}", side)
            has_area = (boxes[:, :2] < boxes[:, 2:]).all(axis=1)
            counts.empty_boxes += int((~has_area).sum())
            if not has_area.any():
                raise InputError(f"{source}: image {name} has not one box; make its proposals some other way")
            counts.images += 1
            counts.boxes += int(has_area.sum())
            yield record["image_id"], boxes[has_area], scores[has_area]
        missing = [record["image_id"] for index, record in enumerate(records) if index not in done]
        if missing:
            other = f"; {counts.other_images} of its images are not in the dataset, like {counts.example}"
            raise InputError(
                f"{source}: no proposals for {len(missing)} of {len(records)} images of the dataset, the first is "
                f"{missing[0]}{other if counts.other_images else ''}; give the file of this split"
            )

    write_store(path, items(), method, parameters, image_list_digest(records))
    return counts


class _ImageFinder:
    def __init__(self, records: Sequence[Mapping[str, Any]], source: str):
        self.source = source
        self.by_id = {str(record["image_id"]): index for index, record in enumerate(records)}
        # All ends of each path, with and without extension.
        self.by_end: dict[str, set[int]] = {}
        for index, record in enumerate(records):
            for end in _ends(str(record["file_name"])):
                self.by_end.setdefault(end, set()).add(index)

    def find(self, name: str) -> int | None:
        if name in self.by_id:
            return self.by_id[name]
        # From the whole path to the name alone, so that the most telling end decides.
        for end in _ends(name):
            found = self.by_end.get(end)
            if found:
                if len(found) > 1:
                    raise InputError(f"{self.source}: {name} fits {len(found)} images of the dataset; name its folders")
                return next(iter(found))
        return None


def _ends(name: str) -> list[str]:
    path = PureWindowsPath(name) if "\\" in name else PurePosixPath(name)
    parts = [part for part in path.parts if part not in (path.anchor, ".")]
    ends = []
    for start in range(len(parts)):
        end = "/".join(parts[start:])
        suffix = path.suffix
        ends += [end, end.removesuffix(suffix)] if suffix else [end]
    return ends


def _check(
    boxes: np.ndarray, scores: np.ndarray | None, record: Mapping[str, Any], where: str, side: float | None
) -> tuple[np.ndarray, np.ndarray]:
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    scores = np.ones(len(boxes)) if scores is None else np.asarray(scores, dtype=np.float64)
    if len(scores) != len(boxes):
        raise InputError(f"{where}: {len(boxes)} boxes and {len(scores)} scores; save the file again")
    if "width" in record and "height" in record:
        height, width = record["height"], record["width"]
    else:
        height, width = image_size(record["file_name"])
    limits = np.array([width, height] * 2, dtype=np.float64)
    if side is not None:
        boxes = boxes * (limits / side)
    tolerance = _BORDER_TOLERANCE * (1 if side is None else limits / side)
    for bad, problem in (
        (~np.isfinite(boxes).all(axis=1) | ~np.isfinite(scores), "it or its score is not finite; save the file again"),
        (
            (boxes[:, 2:] < boxes[:, :2]).any(axis=1),
            "it is inverted; give the --format of this order of numbers",
        ),
        (
            ((boxes < -tolerance) | (boxes > limits + tolerance)).any(axis=1),
            f"it leaves the image of {limits[0]:g} x {limits[1]:g} pixels; give the --format and --dataset of the file",
        ),
    ):
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            numbers = ", ".join(f"{value:g}" for value in boxes[row])
            raise InputError(f"{where}: box {row} [{numbers}] (x0, y0, x1, y1): {problem}")
    return np.clip(boxes, 0, limits).astype(np.float32), scores
