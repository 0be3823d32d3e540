"""Import of proposals from other projects into a store: matched to the images of a dataset, and checked."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from mlickd.errors import InputError

from ..decoding import image_size
from .dataset_proposals import image_list_digest
from .store import ProposalStore, write_store

__all__ = ["import_proposals"]

logger = logging.getLogger(__name__)

# Boxes that leave their image by at most so many pixels, because programs round, are clipped.
_BORDER_TOLERANCE = 2.0


def import_proposals(
    proposals: Iterable[tuple[str, np.ndarray, np.ndarray | None]],
    records: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    source: str,
    method: str,
    parameters: Mapping[str, Any],
    side: float | None = None,
) -> ProposalStore:
    """Write a store of the proposals of the images of a dataset, and log what is left out.

    An image is matched by its id, else by its file name, with or without extension, and by as many of its folders as
    both sides have.

    Args:
        proposals: name of the image, boxes (R, 4) as (x0, y0, x1, y1), and scores (R,). Without scores all are 1, and
            the order is kept.
        records: records of the dataset. If one has no size, it is read from the image.
        path: folder of the store.
        source: name of the file, for messages.
        method, parameters: see `write_store`.
        side: boxes are in pixels of the image warped to a square of this side, not in those of the image.

    Raises:
        InputError: an image of the dataset has no proposals, or twice; a name fits several images; a box is not
            finite, inverted or outside its image. Then no store is written.
    """
    others: list[str] = []
    num_empty = 0
    find = _image_finder(records, source)

    def items() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Yield image id, boxes (R, 4) and scores (R,) of each image of the dataset, in original pixels."""
        nonlocal num_empty
        done: dict[int, str] = {}
        for name, boxes, scores in proposals:
            index = find(name)
            if index is None:
                others.append(name)
                continue
            if index in done:
                raise InputError(f"{source}: {name} and {done[index]} are the same image; remove one")
            done[index] = name
            boxes, scores = _clean(boxes, scores, records[index], f"{source}: image {name}", side)
            has_area = (boxes[:, :2] < boxes[:, 2:]).all(axis=1)
            num_empty += int((~has_area).sum())
            if not has_area.any():
                raise InputError(f"{source}: image {name}: has no boxes; make its proposals in another way")
            yield records[index]["image_id"], boxes[has_area], scores[has_area]
        missing = [record["image_id"] for index, record in enumerate(records) if index not in done]
        if missing:
            raise InputError(
                f"{source}: no proposals for {len(missing)} of {len(records)} images of the dataset, the first is "
                f"{missing[0]}; {len(others)} of its images are not in the dataset; give the file of this split"
            )

    write_store(path, items(), method, parameters, image_list_digest(records), num_images=len(records))
    if others:
        logger.info("left out: %d images that are not in the dataset, like %s", len(others), others[0])
    if num_empty:
        logger.info("left out: %d boxes without area", num_empty)
    return ProposalStore.open(path)


def _image_finder(records: Sequence[Mapping[str, Any]], source: str) -> Callable[[str], int | None]:
    """Return a function from the name of an image to the index of its record, or None."""
    by_id = {str(record["image_id"]): index for index, record in enumerate(records)}
    by_ending: dict[str, set[int]] = {}
    for index, record in enumerate(records):
        for ending in _path_endings(str(record["file_name"])):
            by_ending.setdefault(ending, set()).add(index)

    def find(name: str) -> int | None:
        if name in by_id:
            return by_id[name]
        # The longest ending that is known decides.
        found = next((by_ending[ending] for ending in _path_endings(name) if ending in by_ending), None)
        if found and len(found) > 1:
            raise InputError(f"{source}: {name} fits {len(found)} images of the dataset; give its folders, too")
        return next(iter(found)) if found else None

    return find


def _path_endings(name: str) -> list[str]:
    """Return all endings of a path, longest first, each with and without extension."""
    path = PureWindowsPath(name) if "\\" in name else PurePosixPath(name)
    parts = [part for part in path.parts if part not in (path.anchor, ".")]
    endings = ["/".join(parts[start:]) for start in range(len(parts))]
    return list(dict.fromkeys(text for ending in endings for text in (ending, ending.removesuffix(path.suffix))))


def _clean(
    boxes: np.ndarray, scores: np.ndarray | None, record: Mapping[str, Any], where: str, side: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes in original pixels, clipped to the image, and scores."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    scores = np.ones(len(boxes)) if scores is None else np.asarray(scores, dtype=np.float64)
    if len(scores) != len(boxes):
        raise InputError(f"{where}: {len(boxes)} boxes and {len(scores)} scores; save the file again")
    height, width = (record["height"], record["width"]) if "height" in record else image_size(record["file_name"])
    limits = np.array([width, height] * 2, dtype=np.float64)
    scale = np.ones(4) if side is None else limits / side
    boxes, tolerance = boxes * scale, _BORDER_TOLERANCE * scale
    good = np.isfinite(boxes).all(axis=1) & np.isfinite(scores) & (boxes[:, :2] <= boxes[:, 2:]).all(axis=1)
    good &= ((boxes >= -tolerance) & (boxes <= limits + tolerance)).all(axis=1)
    for row in np.flatnonzero(~good)[:1]:
        numbers = ", ".join(f"{value:g}" for value in boxes[row])
        raise InputError(
            f"{where}: box {row} [{numbers}] (x0, y0, x1, y1) with score {scores[row]:g} is not finite, is inverted, "
            f"or leaves the image of {width:g} x {height:g} pixels; give the --format and --dataset of the file"
        )
    return np.clip(boxes, 0, limits).astype(np.float32), scores
