"""Reading COCO-format JSON: images, categories and boxes, checked."""

from __future__ import annotations

import codecs
import json
import logging
import os
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from mlickd.errors import InputError

from ..box_columns import BoxColumns

logger = logging.getLogger(__name__)

_BORDER_TOLERANCE = 1.0  # pixels: annotation tools round
_UNKNOWN = "add it there, or remove the annotation"
_FORM = "give [x, y, width, height] in pixels"


# What is wanted of the file. The decoder passes over everything else, the outlines of objects above all: they are
# most of the file, and would be most of the memory. No entry can be part of a circle, so the garbage collector need
# not look at them.
class _Category(msgspec.Struct, gc=False):
    id: int
    name: str


class CocoImage(msgspec.Struct, gc=False):
    """An image as the file describes it, with its size in pixels."""

    id: int | str
    file_name: str
    height: int | None = None
    width: int | None = None


class _Annotation(msgspec.Struct, gc=False):
    image_id: int | str
    category_id: int
    bbox: tuple[float, ...] | None = None
    iscrowd: Any = 0
    id: int | str = "?"


class _Content(msgspec.Struct):
    images: list[CocoImage]
    categories: list[_Category]
    annotations: list[_Annotation]


@dataclass(frozen=True)
class CocoFile:
    """The content of a COCO-format file with M annotations.

    Attributes:
        path: of the file, for messages.
        category_names: in the order of the ids of the categories.
        images: in the order of the file.
        annotation_ids: M of them, for messages.
        owners: (M,) int64, index in `images` of each annotation.
        categories: (M,) int64, index in `category_names`.
        boxes: (M, 4) float64, (x, y, width, height) in pixels; not yet checked.
        crowd: (M,) bool, whether the annotation is of a crowd (`iscrowd`).
    """

    path: str
    category_names: list[str]
    images: list[CocoImage]
    annotation_ids: list[int | str]
    owners: np.ndarray
    categories: np.ndarray
    boxes: np.ndarray
    crowd: np.ndarray

    def where(self, annotation: int) -> str:
        """What messages call an annotation, given by its index."""
        return _where(self.path, self.annotation_ids[annotation], self.images[self.owners[annotation]].id)


def read_coco(path: str | os.PathLike[str]) -> CocoFile:
    """Read a COCO-format file.

    Raises:
        InputError: the file is missing, is not such JSON, repeats an id, or refers to an unknown one; or a box is not
            of 4 numbers.
    """
    path = os.fspath(path)
    content = _decode(path)
    for name, entries in (("categories", content.categories), ("images", content.images)):
        _refuse_twice(path, name, "id", [entry.id for entry in entries], "entry its own id")
    _refuse_twice(path, "categories", "name", [entry.name for entry in content.categories], "category its own name")

    in_order = sorted(content.categories, key=lambda category: category.id)
    categories = {category.id: index for index, category in enumerate(in_order)}
    images = {image.id: index for index, image in enumerate(content.images)}
    annotations = content.annotations
    for annotation in annotations:
        problem = None
        if annotation.image_id not in images:
            problem = f"image {annotation.image_id} is not in 'images'; {_UNKNOWN}"
        elif annotation.category_id not in categories:
            problem = f"category {annotation.category_id} is not in 'categories'; {_UNKNOWN}"
        elif annotation.bbox is None or len(annotation.bbox) != 4:
            problem = f"'bbox' {_numbers(annotation.bbox)} is not a list of 4 numbers; {_FORM}"
        elif annotation.iscrowd not in (0, 1, None):
            problem = f"'iscrowd' {annotation.iscrowd!r} is neither 0 nor 1; correct it"
        if problem:
            raise InputError(f"{_where(path, annotation.id, annotation.image_id)}: {problem}")
    return CocoFile(
        path,
        [category.name for category in in_order],
        content.images,
        [annotation.id for annotation in annotations],
        np.array([images[annotation.image_id] for annotation in annotations], dtype=np.int64),
        np.array([categories[annotation.category_id] for annotation in annotations], dtype=np.int64),
        np.array([annotation.bbox for annotation in annotations], dtype=np.float64).reshape(-1, 4),
        np.array([annotation.iscrowd == 1 for annotation in annotations], dtype=bool),
    )


def box_columns(
    file: CocoFile, records: np.ndarray, sizes: np.ndarray, classes: np.ndarray, *, allow_empty: bool
) -> BoxColumns:
    """The boxes of N records, checked and clipped to the image.

    Args:
        file: what `read_coco` gave.
        records: (len(file.images),) int64, the record of each image; -1 for an image whose boxes are not wanted.
        sizes: (N, 2), height and width of each record in pixels.
        classes: (M,) int64, class index of each annotation.
        allow_empty: leave out a box without area, with a warning (COCO itself has a few), rather than refuse it.

    Returns:
        The boxes, in the order of the file within a record.

    Raises:
        InputError: a box is not finite, is inverted or empty, or leaves the image.
    """
    owners = records[file.owners]
    wanted = np.argsort(owners, kind="stable")[np.count_nonzero(owners < 0) :]
    owners = owners[wanted]
    x, y, box_width, box_height = file.boxes[wanted].T
    height, width = sizes[owners].T
    beyond = np.minimum(np.minimum(x, y), np.minimum(width - x - box_width, height - y - box_height))
    corners = np.stack(
        [np.maximum(x, 0), np.maximum(y, 0), np.minimum(x + box_width, width), np.minimum(y + box_height, height)],
        axis=1,
    )
    empty = (corners[:, 2:] <= corners[:, :2]).any(axis=1)
    problems = {
        "is not finite; correct it": ~np.isfinite(file.boxes[wanted]).all(axis=1),
        f"has a negative size; {_FORM}": (box_width < 0) | (box_height < 0),
        f"leaves the image of {{1:g}}x{{0:g}} pixels; {_FORM}": beyond < -_BORDER_TOLERANCE,
    }
    if not allow_empty:
        problems[f"has no area; {_FORM}"] = empty
    _refuse_first(file, wanted, problems, sizes[owners])
    for annotation in wanted[empty]:
        numbers = _numbers(file.boxes[annotation])
        logger.warning("%s: 'bbox' %s has no area; left out", file.where(annotation), numbers)

    kept, owners = wanted[~empty], owners[~empty]
    counts = np.full(len(sizes), -1, dtype=np.int64)
    counts[records[records >= 0]] = 0
    np.add.at(counts, owners, 1)
    crowd = file.crowd[kept]
    return BoxColumns(counts, corners[~empty], classes[kept], crowd, np.zeros_like(crowd))


def _refuse_first(file: CocoFile, wanted: np.ndarray, problems: dict[str, np.ndarray], sizes: np.ndarray) -> None:
    """Raise the first problem of the first box that has any."""
    bad = np.flatnonzero(np.logical_or.reduce(list(problems.values())))
    if len(bad):
        first = bad[0]
        problem = next(text for text, found in problems.items() if found[first]).format(*sizes[first])
        annotation = wanted[first]
        raise InputError(f"{file.where(annotation)}: 'bbox' {_numbers(file.boxes[annotation])} {problem}")


def _decode(path: str) -> _Content:
    try:
        with open(path, "rb") as file:
            content = file.read().removeprefix(codecs.BOM_UTF8)
        try:
            return msgspec.json.decode(content, type=_Content)
        except msgspec.ValidationError:
            raise
        except (ValueError, RecursionError):
            # Python's own reader names line and column of a mistake, and takes NaN, which some programs write.
            return msgspec.convert(json.loads(content.decode()), type=_Content)
    except FileNotFoundError:
        raise InputError(f"{path}: annotation file not found; put it there") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; put the annotation file there") from None
    except msgspec.ValidationError as error:
        raise InputError(
            f"{path}: not in COCO format: {str(error).replace('`', chr(39))}; write it as "
            "https://cocodataset.org/#format-data says"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a readable JSON file ({error}); download or save it again") from error


def _refuse_twice(path: str, name: str, field: str, values: Iterable[Hashable], remedy: str) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise InputError(f"{path}: {field} {value!r} occurs twice in {name!r}; give every {remedy}")
        seen.add(value)


def _where(path: str, annotation_id: int | str, image_id: int | str) -> str:
    return f"{path}: annotation {annotation_id} of image {image_id}"


def _numbers(box: Iterable[float] | None) -> str:
    return "None" if box is None else f"[{', '.join(f'{value:g}' for value in box)}]"
