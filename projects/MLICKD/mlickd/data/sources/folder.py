"""Folder data sets: a directory of images with a list of classes and a table of labels.

<directory>/
  images/                  photos; sub-folders are fine
  classes.txt              one class a line
  labels_<split>.csv       file_name,labels   (labels joined by ";", may be empty), or a column for each class
  instances_<split>.json   optional boxes in COCO format, for detection metrics only

Without `classes.txt` and tables, the labels of an image are the categories of its boxes.
"""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path, PurePosixPath

from mlickd.errors import InputError

from ..records import MultiLabelDataset, image_size
from ..text_files import read_lines
from .coco import load_coco_multilabel
from .coco_format import box_annotations, read_coco
from .image_folder import ImageFolder
from .label_table import FOLDER_REMEDY, read_label_table
from .source import DatasetSource

logger = logging.getLogger(__name__)


def folder_splits(directory: str | os.PathLike[str]) -> list[str]:
    """Names of the splits of a folder data set."""
    directory = Path(directory)
    form = "instances_*.json" if _has_boxes_alone(directory) else "labels_*.csv"
    return sorted(path.stem.split("_", 1)[1] for path in directory.glob(form))


def folder_source(directory: Path, split: str) -> DatasetSource:
    """Where one split of a folder data set lies, and what reads it, whether or not it is there."""
    if _has_boxes_alone(directory):
        boxes = directory / f"instances_{split}.json"
        return DatasetSource((boxes,), partial(load_coco_multilabel, boxes, directory / "images"))
    return DatasetSource((directory / f"labels_{split}.csv",), partial(load_folder_dataset, directory, split))


def _has_boxes_alone(directory: Path) -> bool:
    """Whether nothing but boxes can say what is in the images."""
    return not (directory / "classes.txt").exists() and not any(directory.glob("labels_*.csv"))


def load_folder_dataset(directory: str | os.PathLike[str], split: str) -> MultiLabelDataset:
    """Read one split of a folder data set. The image id is the file name below `images/`.

    Text files are UTF-8; a byte order mark, Windows line ends and blank lines are accepted.

    Raises:
        InputError: naming the file, and the line where there is one.
    """
    directory = Path(directory)
    class_names = _read_classes(directory / "classes.txt")
    table = directory / f"labels_{split}.csv"
    folder = ImageFolder(directory / "images", table)
    records = []
    for file_name, row in read_label_table(table, class_names).items():
        path = folder.require(file_name, f" in line {row.line}")
        height, width = image_size(path)
        record = {"file_name": path, "height": height, "width": width, "image_id": file_name, "labels": row.labels}
        if row.ignored_labels:
            record["ignored_labels"] = row.ignored_labels
        records.append(record)
    if not records:
        raise InputError(f"{table}: the split is empty; list at least one image")
    boxes = directory / f"instances_{split}.json"
    box_classes = _add_boxes(records, class_names, boxes) if boxes.exists() else []
    return MultiLabelDataset(records, class_names, box_classes, folder.root)


def _read_classes(path: Path) -> list[str]:
    names: dict[str, int] = {}
    for line, name in read_lines(path, FOLDER_REMEDY):
        if ";" in name:
            raise InputError(f"{path}: line {line}: class {name!r} holds ';', which joins labels; rename it")
        if name in names:
            raise InputError(f"{path}: line {line}: class {name!r} is also in line {names[name]}; remove one")
        names[name] = line
    if not names:
        raise InputError(f"{path}: no class; write one class name a line")
    return list(names)


def _add_boxes(records: list[dict], class_names: list[str], path: Path) -> list[int]:
    """Give the records the boxes of a COCO-format file, and return the classes that have boxes."""
    file = read_coco(path)
    used = {annotation["category_id"] for annotations in file.annotations.values() for annotation in annotations}
    indices = {}
    for category_id, name in file.categories.items():
        if name in class_names:
            indices[category_id] = class_names.index(name)
        elif category_id in used:
            raise InputError(f"{path}: category {name!r} is not in {path.with_name('classes.txt')}; use the same names")

    by_name = {record["image_id"]: record for record in records}
    unknown = []
    for image_id, image in file.images.items():
        record = by_name.get(str(PurePosixPath(image["file_name"])))
        if record is None:
            unknown.append(image["file_name"])
            continue
        if "annotations" in record:
            raise InputError(f"{path}: image {image['file_name']!r} is listed twice; merge its two entries")
        height, width = record["height"], record["width"]
        if (image.get("height", height), image.get("width", width)) != (height, width):
            raise InputError(
                f"{path}: image {image['file_name']!r} is {image.get('width')}x{image.get('height')} pixels here, "
                f"but its file is {width}x{height}; its boxes would not fit"
            )
        record["annotations"] = box_annotations(file, image_id, indices, height, width, allow_empty=False)
    if len(unknown) == len(file.images):
        raise InputError(f"{path}: no image of this split is in it; 'file_name' must be as in the labels table")
    if unknown:
        logger.warning("%s: %d images are not in this split, the first is %s", path, len(unknown), unknown[0])
    bare = sum("annotations" not in record for record in records)
    if bare:
        logger.warning("%s: %d images of this split have no boxes in it", path, bare)
    return sorted({box["category_id"] for record in records for box in record.get("annotations", ())})
