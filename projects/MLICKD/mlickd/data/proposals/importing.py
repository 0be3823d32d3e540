"""Import of proposals from other projects: matching to the images of a dataset, checks, and storage."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from mlickd.decoding import image_size
from mlickd.errors import InputError
from mlickd.files import IMAGE_SUFFIXES

from .file_formats import Proposals
from .store import ProposalStore, image_list_digest, write_store

logger = logging.getLogger(__name__)

# Boxes may exceed their image by this number of pixels, because other programs round. They are clipped.
_BORDER_TOLERANCE = 2.0


def import_proposals(
    proposals: Iterable[Proposals],
    records: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    source: str,
    method: str,
    parameters: Mapping[str, Any],
    side: float | None = None,
) -> ProposalStore:
    """Write imported proposals of a dataset to a store, and open the store.

    An image is matched by its id or, if no id matches, by the longest ending of the path that both names have, with or
    without the suffix of an image file. Images that are not in the dataset and boxes without area are skipped, with a
    log message.

    Args:
        proposals: for each image its name, boxes (R, 4) as (x0, y0, x1, y1), and scores (R,). None stands for equal
            scores, which keep the order.
        records: records of the dataset. A missing size is read from the image.
        path: folder of the store.
        source: name of the imported file in error messages.
        method, parameters: see `write_store`.
        side: None if boxes are in pixels of the image. Otherwise, they are in pixels of the image after it is warped to
            a square of this side.

    Raises:
        InputError: an image of the dataset has no proposals, or has them twice; a name matches several images; or a box
            is not finite, is inverted or extends beyond its image. No store is written in these cases.
    """
    items = _match_to_records(proposals, records, source, side)
    write_store(path, items, method, parameters, image_list_digest(records), num_images=len(records))
    return ProposalStore(path)


def _match_to_records(
    proposals: Iterable[Proposals], records: Sequence[Mapping[str, Any]], source: str, side: float | None
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield the image id, boxes (R, 4) in original pixels, and scores (R,) of each image of the dataset."""
    unknown: list[str] = []
    done: dict[int, str] = {}
    num_empty = 0
    find = _image_finder(records, source)
    for name, boxes, scores in proposals:
        index = find(name)
        if index is None:
            unknown.append(name)
            continue
        if index in done:
            raise InputError(f"{source}: {name} and {done[index]} are the same image; remove one")
        done[index] = name
        scores = np.ones(len(boxes)) if scores is None else np.asarray(scores)
        boxes = _clip_boxes(boxes, scores, records[index], f"{source}: image {name}", side)
        has_area = (boxes[:, :2] < boxes[:, 2:]).all(axis=1)
        num_empty += int((~has_area).sum())
        if not has_area.any():
            raise InputError(f"{source}: image {name}: has no boxes; generate its proposals with another method")
        yield records[index]["image_id"], boxes[has_area], scores[has_area]
    missing = [record["image_id"] for index, record in enumerate(records) if index not in done]
    if missing:
        raise InputError(
            f"{source}: has no proposals for {len(missing)} of {len(records)} images of the dataset, such as "
            f"{missing[0]}, but for {len(unknown)} other images; give the file of this split"
        )
    if unknown:
        logger.info("skipped %d images that are not in the dataset, such as %s", len(unknown), unknown[0])
    if num_empty:
        logger.info("skipped %d boxes without area", num_empty)


def _image_finder(records: Sequence[Mapping[str, Any]], source: str) -> Callable[[str], int | None]:
    """Return a function from the name of an image to the index of its record, or None."""
    by_id = {str(record["image_id"]): index for index, record in enumerate(records)}
    by_ending: dict[str, set[int]] = {}
    for index, record in enumerate(records):
        for ending in _path_endings(str(record["file_name"])):
            by_ending.setdefault(ending, set()).add(index)

    def find(name: str) -> int | None:
        """Return the index of the record with this id, or with the longest common ending of the path."""
        if name in by_id:
            return by_id[name]
        found = next((by_ending[ending] for ending in _path_endings(name) if ending in by_ending), set())
        if len(found) > 1:
            raise InputError(f"{source}: {name} matches {len(found)} images of the dataset; add folders to the name")
        return next(iter(found), None)

    return find


def _path_endings(name: str) -> list[str]:
    """Return all endings of a path, longest first, each with and without the suffix of an image file."""
    path = PureWindowsPath(name) if "\\" in name else PurePosixPath(name)
    parts = [part for part in path.parts if part not in (path.anchor, ".")]
    endings = ["/".join(parts[start:]) for start in range(len(parts))]
    suffix = path.suffix if path.suffix.lower() in IMAGE_SUFFIXES else ""
    return [text for ending in endings for text in (ending, ending.removesuffix(suffix))]


def _clip_boxes(
    boxes: np.ndarray, scores: np.ndarray, record: Mapping[str, Any], where: str, side: float | None
) -> np.ndarray:
    """Check boxes (R, 4) and scores (R,). Return the boxes in original pixels, clipped to the image."""
    height, width = (record["height"], record["width"]) if "height" in record else image_size(record["file_name"])
    limits = np.array([width, height] * 2, dtype=np.float64)
    scale = np.ones(4) if side is None else limits / side
    boxes, tolerance = boxes * scale, _BORDER_TOLERANCE * scale
    good = np.isfinite(boxes).all(axis=1) & np.isfinite(scores) & (boxes[:, :2] <= boxes[:, 2:]).all(axis=1)
    good &= ((boxes >= -tolerance) & (boxes <= limits + tolerance)).all(axis=1)
    if not good.all():
        row = int(good.argmin())  # the first
        numbers = ", ".join(f"{value:g}" for value in boxes[row])
        raise InputError(
            f"{where}: box {row} [{numbers}] (x0, y0, x1, y1) with score {scores[row]:g} is not finite, is inverted, "
            f"or extends beyond the image ({width:g} x {height:g} pixels); check that --format and --dataset fit"
        )
    return np.clip(boxes, 0, limits).astype(np.float32)
