"""Precomputed proposals of Detectron2: a pickled dict of lists."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from mlickd.errors import InputError, shorten_list
from mlickd.files import whole_file
from mlickd.safe_pickle import load_plain_pickle

from ..store import ProposalStore

__all__ = ["read_detectron2_pickle", "write_detectron2_pickle"]

# Of Detectron (1): its name for each key.
_OLD_NAMES = {"indexes": "ids", "scores": "objectness_logits"}
_MODES = {int(BoxMode.XYXY_ABS): BoxMode.XYXY_ABS, int(BoxMode.XYWH_ABS): BoxMode.XYWH_ABS}


def read_detectron2_pickle(path: str | os.PathLike[str]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield image id, boxes (R, 4) as (x0, y0, x1, y1), and objectness logits (R,), as they are.

    Raises:
        InputError: not such a file, see also `load_plain_pickle`.
    """
    content = load_plain_pickle(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}; save a dict with ids, boxes and objectness_logits")
    content = {_OLD_NAMES.get(key, key): value for key, value in content.items()}
    for key in ("ids", "boxes", "objectness_logits"):
        if not isinstance(content.get(key), list | tuple | np.ndarray):
            raise InputError(f"{path}: has no list {key!r}; save it with one; its keys are {shorten_list(content)}")
    if len({len(content[key]) for key in ("ids", "boxes", "objectness_logits")}) != 1:
        raise InputError(f"{path}: ids, boxes and objectness_logits have different lengths; save it again")
    mode = content.get("bbox_mode", int(BoxMode.XYXY_ABS))
    if type(mode) is not int or mode not in _MODES:
        raise InputError(f"{path}: bbox_mode is {mode!r}; save it as XYXY_ABS (0) or XYWH_ABS (1)")
    for image_id, boxes, scores in zip(content["ids"], content["boxes"], content["objectness_logits"], strict=True):
        try:
            boxes = np.array(boxes, dtype=np.float64)
            scores = np.array(scores, dtype=np.float64).reshape(-1)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{path}: image {image_id}: boxes or logits are no arrays of numbers ({error}); save it again"
            ) from error
        if not boxes.size:
            boxes = boxes.reshape(0, 4)
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise InputError(f"{path}: image {image_id}: boxes of shape {boxes.shape}, not (R, 4); save them one a row")
        if _MODES[mode] == BoxMode.XYWH_ABS:
            boxes[:, 2:] += boxes[:, :2]
        yield str(image_id), boxes, scores


def write_detectron2_pickle(store: ProposalStore, path: str | os.PathLike[str]) -> None:
    """Write a store for Detectron2's `load_proposals_into_dataset`. It needs neither this project nor this NumPy.

    Of equal scores Detectron2 takes the last first. Each of a run of equal scores is therefore lowered to the next
    smaller float32, which keeps the order.

    Raises:
        InputError: the file cannot be written.
    """
    content: dict[str, Any] = {"ids": [], "boxes": [], "objectness_logits": [], "bbox_mode": int(BoxMode.XYXY_ABS)}
    for image_id in store:
        boxes, scores = store[image_id]
        content["ids"].append(image_id)
        content["boxes"].append(boxes)
        content["objectness_logits"].append(_strictly_falling(scores))
    with whole_file(path, "give another path", parents=True) as file:
        _PortablePickler(file, protocol=4).dump(content)


class _PortablePickler(pickle.Pickler):
    """Writes arrays by their public constructor: NumPy's own pickles name modules that moved between versions."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is np.ndarray:
            # From a bytearray, so that what is read can be written to.
            return np.ndarray, (value.shape, value.dtype.str, bytearray(value.tobytes()))
        return NotImplemented


def _strictly_falling(scores: np.ndarray) -> np.ndarray:
    falling = np.array(scores, dtype=np.float32)
    for index in range(1, len(falling)):
        if falling[index] >= falling[index - 1]:
            falling[index] = np.nextafter(falling[index - 1], np.float32(-np.inf))
    return falling
