"""Reading COCO-format JSON: images, categories and boxes, checked."""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from detectron2.structures import BoxMode

from mlickd.errors import InputError

logger = logging.getLogger(__name__)

_BORDER_TOLERANCE = 1.0  # pixels: annotation tools round
# A key, for a string that is a value has no colon behind it, and its value, a list of lists of numbers.
_OUTLINE = re.compile(r'"segmentation"\s*:\s*\[[][0-9.,eE+\-\s]*\]')


@dataclass(frozen=True)
class CocoFile:
    """The content of a COCO-format file.

    Attributes:
        path: of the file, for messages.
        categories: category id to name, in the order of the ids.
        images: image id to the entry of the file, with at least `file_name`.
        annotations: image id to its annotations; every image has a list.
    """

    path: str
    categories: dict[int, str]
    images: dict[int, dict]
    annotations: dict[int, list[dict]]


def read_coco(path: str | os.PathLike[str]) -> CocoFile:
    """Read a COCO-format file.

    Raises:
        InputError: the file is missing, is not such JSON, repeats an id, or refers to an unknown one.
    """
    path = os.fspath(path)
    content = _read_json(path)
    try:
        categories = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
        in_order = dict(sorted(categories.items()))
        images = {entry["id"]: entry for entry in content["images"]}
        annotations: dict[int, list[dict]] = {image_id: [] for image_id in images}
        for name, table in (("categories", categories), ("images", images)):
            if len(table) != len(content[name]):
                twice = _first_twice(entry["id"] for entry in content[name])
                raise InputError(f"{path}: id {twice!r} occurs twice in {name!r}; give every entry its own id")
        if len(set(categories.values())) != len(categories):
            twice = _first_twice(categories.values())
            raise InputError(f"{path}: name {twice!r} occurs twice in 'categories'; give every category its own name")
        for image in images.values():
            if not isinstance(image["file_name"], str):
                raise InputError(f"{path}: image {image['id']}: 'file_name' is not a string")
        for annotation in content["annotations"]:
            if annotation["image_id"] not in images:
                raise InputError(f"{_where(path, annotation)}: image {annotation['image_id']} is not in 'images'")
            if annotation["category_id"] not in categories:
                raise InputError(
                    f"{_where(path, annotation)}: category {annotation['category_id']} is not in 'categories'"
                )
            annotations[annotation["image_id"]].append(annotation)
    except KeyError as error:
        raise InputError(f"{path}: not in COCO format: the key {error} is missing") from error
    except (TypeError, AttributeError) as error:
        raise InputError(f"{path}: not in COCO format ({error})") from error
    return CocoFile(path, in_order, images, annotations)


def _read_json(path: str) -> Any:
    """The content without outlines of objects, which are most of the file and of the memory that it would take."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
        try:
            return json.loads(_OUTLINE.sub('"segmentation":[]', text))
        except (ValueError, RecursionError):
            return json.loads(text)  # again, for the place of the mistake
    except FileNotFoundError:
        raise InputError(f"{path}: annotation file not found") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a readable JSON file ({error})") from error


def box_annotations(
    file: CocoFile, image_id: int, indices: dict[int, int], height: int, width: int, *, allow_empty: bool
) -> list[dict]:
    """The Detectron2 annotations of one image.

    Args:
        file: what `read_coco` gave.
        image_id: in `file.images`.
        indices: category id to contiguous class index.
        height, width: of the image, in pixels.
        allow_empty: leave out a box without area, with a warning (COCO itself has a few), rather than refuse it.

    Returns:
        Dicts with `bbox` (x0, y0, x1, y1) clipped to the image, `bbox_mode`, `category_id` and `iscrowd`.

    Raises:
        InputError: a box is missing, is not finite, is inverted or empty, or leaves the image.
    """
    annotations = []
    for annotation in file.annotations[image_id]:
        x0, y0, x1, y1 = _corners(file.path, annotation, height, width)
        if x0 < x1 and y0 < y1:
            annotations.append(
                {
                    "bbox": [x0, y0, x1, y1],
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "category_id": indices[annotation["category_id"]],
                    "iscrowd": _crowd(file.path, annotation),
                }
            )
        elif allow_empty:
            where = _where(file.path, annotation)
            logger.warning("%s: 'bbox' %s has no area; left out", where, annotation["bbox"])
        else:
            where = _where(file.path, annotation)
            raise InputError(f"{where}: 'bbox' {annotation['bbox']} has no area; it is [x, y, width, height]")
    return annotations


def _crowd(path: str, annotation: dict) -> int:
    """0 or 1; a missing value or null is 0."""
    value = annotation.get("iscrowd", 0)
    if value not in (0, 1, None):
        raise InputError(f"{_where(path, annotation)}: 'iscrowd' {value!r} is neither 0 nor 1; correct it")
    return int(value or 0)


def _first_twice(values: Iterable[Any]) -> Any:
    """The first value that came before."""
    seen = set()
    return next(value for value in values if value in seen or seen.add(value))


def _corners(path: str, annotation: dict, height: int, width: int) -> tuple[float, float, float, float]:
    """(x0, y0, x1, y1), clipped, of a checked COCO box."""
    box = annotation.get("bbox")
    try:  # Nearly every box is good, and there may be a million.
        x0, y0, box_width, box_height = box
        x1, y1 = x0 + box_width, y0 + box_height
        if 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height:
            return float(x0), float(y0), float(x1), float(y1)
    except (TypeError, ValueError):
        pass
    where = _where(path, annotation)
    if not (isinstance(box, list) and len(box) == 4 and all(isinstance(value, int | float) for value in box)):
        raise InputError(f"{where}: 'bbox' {box} is not a list of 4 numbers")
    x, y, box_width, box_height = (float(value) for value in box)
    if not all(math.isfinite(value) for value in (x, y, box_width, box_height)):
        raise InputError(f"{where}: 'bbox' {box} is not finite")
    if box_width < 0 or box_height < 0:
        raise InputError(f"{where}: 'bbox' {box} has a negative size; it is [x, y, width, height]")
    if min(x, y, width - x - box_width, height - y - box_height) < -_BORDER_TOLERANCE:
        raise InputError(
            f"{where}: 'bbox' {box} leaves the image of {width}x{height} pixels; it is [x, y, width, height]"
        )
    return max(x, 0.0), max(y, 0.0), min(x + box_width, float(width)), min(y + box_height, float(height))


def _where(path: str, annotation: dict) -> str:
    return f"{path}: annotation {annotation.get('id', '?')} of image {annotation['image_id']}"
