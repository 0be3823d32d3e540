"""Folder datasets: a directory of images with a list of classes and a table of labels.

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

import numpy as np

from mlickd.errors import InputError

from ..box_columns import BoxColumns
from ..packed_records import PackedRecords
from ..records import MultiLabelDataset, image_size
from ..text_files import read_lines
from .coco import load_coco_multilabel
from .coco_format import box_columns, read_coco
from .image_folder import ImageFolder
from .label_table import FOLDER_REMEDY, read_label_table
from .source import DatasetSource

logger = logging.getLogger(__name__)


def folder_splits(directory: str | os.PathLike[str]) -> list[str]:
    """Names of the splits of a folder dataset."""
    directory = Path(directory)
    form = "instances_*.json" if _has_boxes_alone(directory) else "labels_*.csv"
    return sorted(path.stem.split("_", 1)[1] for path in directory.glob(form))


def folder_source(directory: Path, split: str) -> DatasetSource:
    """Where one split of a folder dataset lies, and what reads it, whether or not it is there."""
    if _has_boxes_alone(directory):
        boxes = directory / f"instances_{split}.json"
        return DatasetSource((boxes,), partial(load_coco_multilabel, boxes, directory / "images"))
    return DatasetSource((directory / f"labels_{split}.csv",), partial(load_folder_dataset, directory, split))


def _has_boxes_alone(directory: Path) -> bool:
    """Whether nothing but boxes can say what is in the images."""
    return not (directory / "classes.txt").exists() and not any(directory.glob("labels_*.csv"))


def load_folder_dataset(directory: str | os.PathLike[str], split: str) -> MultiLabelDataset:
    """Read one split of a folder dataset. The image id is the file name below `images/`.

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
    instances = directory / f"instances_{split}.json"
    boxes = _read_boxes(records, class_names, instances) if instances.exists() else BoxColumns.of([None] * len(records))
    return MultiLabelDataset(PackedRecords(records, boxes), class_names, boxes.box_classes(), folder.root)


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


def _read_boxes(records: list[dict], class_names: list[str], path: Path) -> BoxColumns:
    """The boxes of the records in a COCO-format file."""
    file = read_coco(path)
    used = set(file.categories.tolist())
    indices = np.full(len(file.category_names), -1)
    for category, name in enumerate(file.category_names):
        if name in class_names:
            indices[category] = class_names.index(name)
        elif category in used:
            raise InputError(f"{path}: category {name!r} is not in {path.with_name('classes.txt')}; use the same names")

    by_name = {record["image_id"]: index for index, record in enumerate(records)}
    owners = np.full(len(file.images), -1)
    listed, unknown = set(), []
    for number, image in enumerate(file.images):
        index = by_name.get(str(PurePosixPath(image.file_name)))
        if index is None:
            unknown.append(image.file_name)
            continue
        if index in listed:
            raise InputError(f"{path}: image {image.file_name!r} is listed twice; merge its two entries")
        height, width = records[index]["height"], records[index]["width"]
        if image.height not in (None, height) or image.width not in (None, width):
            raise InputError(
                f"{path}: image {image.file_name!r} is {image.width}x{image.height} pixels here, "
                f"but its file is {width}x{height}; its boxes would not fit; give the size of the file, and boxes in "
                "its pixels"
            )
        owners[number] = index
        listed.add(index)
    if len(unknown) == len(file.images):
        raise InputError(f"{path}: no image of this split is in it; write 'file_name' as in the table of labels")
    if unknown:
        logger.warning("%s: images that are not in this split: %d, the first is %s", path, len(unknown), unknown[0])
    sizes = np.array([(record["height"], record["width"]) for record in records])
    boxes = box_columns(file, owners, sizes, indices[file.categories], allow_empty=False)
    if len(listed) < len(records):
        logger.warning("%s: images of this split that it does not list: %d", path, len(records) - len(listed))
    return boxes
