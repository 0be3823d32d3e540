"""Records with image-level labels: the targets they give, image sizes, and the checks that all datasets share."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from PIL import Image

from mlickd.errors import InputError
from mlickd.image_files import open_image_file, too_large, why_unreadable

from .orientation import orientation, upright_size
from .packed_records import PackedRecords

logger = logging.getLogger(__name__)

# What records say of classes at the level of the image.
LABEL_FIELDS = ("labels", "ignored_labels")


@dataclass(frozen=True)
class MultiLabelDataset:
    """One split of a dataset, as a loader gives it.

    Attributes:
        records: Detectron2 dataset dicts (`file_name`, `image_id`) with `labels`, sorted contiguous class indices.
            Where they are known, also `ignored_labels`; `height` and `width` in pixels, which boxes need; and
            `annotations`, for evaluation only.
        class_names: names of the C classes.
        box_classes: sorted indices of the classes that have box annotations.
        image_root: the directory of the images.
    """

    records: PackedRecords
    class_names: list[str]
    box_classes: list[int]
    image_root: str


def label_targets(records: Sequence[dict], num_classes: int) -> np.ndarray:
    """Image-level targets of records.

    Args:
        records: each with `labels` and optionally `ignored_labels`, lists of class indices. A class in both is
            a positive. A record without `labels` is no negative of every class, and a KeyError.
        num_classes: C.

    Returns:
        (N, C) int8: 1 where the class is in the image, 0 where it is not, -1 where it is to be ignored.

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
                "); set MODEL.NUM_CLASSES to the number of classes of this dataset"
            )
        targets[rows, labels] = value
    return targets


def label_lists(targets: np.ndarray) -> list[list[int]]:
    """The inverse of `label_targets`: the sorted indices of what is not 0 in each row of (N, C)."""
    rows, columns = np.nonzero(targets)
    ends = np.searchsorted(rows, np.arange(len(targets)), side="right").tolist()
    values = columns.tolist()
    return [values[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) in pixels of an image as `mlickd.data.reading.read_image` gives it.

    Reads the header alone where the format allows it, and follows the EXIF orientation.

    Raises:
        InputError: the file is missing or is not an image.
    """
    try:
        with open_image_file(path) as image:
            return oriented_size(image)
    except FileNotFoundError:
        raise InputError(f"{path}: image file not found; put it there") from None
    except Image.DecompressionBombError as error:
        raise InputError(too_large(path)) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(
            f"{path}: not a readable image ({why_unreadable(path, error)}); replace it, or take it out of the dataset"
        ) from error


def oriented_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) of an opened image after its EXIF orientation is applied."""
    width, height = image.size
    return upright_size(height, width, orientation(image))


def check_records(records: Sequence[dict], class_names: Sequence[str], source: str) -> None:
    """Refuse a split that cannot be trained on or evaluated; warn of classes that nobody has labeled.

    Args:
        records: with `file_name`, `image_id` and `labels`.
        class_names: names of the C classes.
        source: what to name in messages: the file or the dataset that the records come from.

    Raises:
        InputError: there is no record, an image id occurs twice, or a label is not in [0, C).
    """
    if not records:
        raise InputError(f"{source}: the split is empty; list at least one image")
    first: dict[str, str] = {}
    for record in records:
        image_id = str(record["image_id"])
        if image_id in first:
            raise InputError(
                f"{source}: image id {image_id!r} occurs twice ({first[image_id]} and {record['file_name']}); "
                "give every image one id"
            )
        first[image_id] = record["file_name"]
    positives = (label_targets(records, len(class_names)) == 1).sum(axis=0)
    missing = [name for name, count in zip(class_names, positives, strict=True) if not count]
    if missing:
        logger.warning(
            "%s: no image is labeled with %s; these classes cannot be learned or measured here",
            source,
            ", ".join(missing),
        )
