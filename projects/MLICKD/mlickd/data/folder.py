"""Folder data sets: a directory of images with a list of classes and a table of labels.

<directory>/
  images/                  photos; sub-folders are fine
  classes.txt              one class a line
  labels_<split>.csv       file_name,labels   (labels joined by ";", may be empty)
  instances_<split>.json   optional boxes in COCO format, for detection metrics only
"""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from ..errors import InputError
from .coco_format import box_annotations, read_coco
from .records import MultiLabelDataset, image_size

logger = logging.getLogger(__name__)

_HEADER = ["file_name", "labels"]


def folder_splits(directory: str | os.PathLike[str]) -> list[str]:
    """Names of the splits of a folder data set: those that have a `labels_<split>.csv`."""
    paths = Path(directory).glob("labels_*.csv")
    return sorted(path.stem.removeprefix("labels_") for path in paths)


def load_folder_dataset(directory: str | os.PathLike[str], split: str) -> MultiLabelDataset:
    """Read one split of a folder data set. The image id is the file name below `images/`.

    Text files are UTF-8; a byte order mark, Windows line ends and blank lines are accepted.

    Raises:
        InputError: naming the file, and the line where there is one.
    """
    directory = Path(directory)
    image_root = directory / "images"
    if not image_root.is_dir():
        raise InputError(f"{image_root}: image folder not found; put the images of this data set there")
    class_names = _read_classes(directory / "classes.txt")
    table = directory / f"labels_{split}.csv"
    records = []
    for file_name, (line, labels) in _read_labels(table, class_names).items():
        path = image_root / file_name
        if not path.is_file():
            raise InputError(f"{path}: image file not found, but {table} lists it in line {line}")
        height, width = image_size(path)
        records.append(
            {
                "file_name": str(path),
                "height": height,
                "width": width,
                "image_id": file_name,
                "labels": labels,
            }
        )
    if not records:
        raise InputError(f"{table}: the split is empty; list at least one image")
    boxes = directory / f"instances_{split}.json"
    box_classes = _add_boxes(records, class_names, boxes) if boxes.exists() else []
    return MultiLabelDataset(records, class_names, box_classes, str(image_root))


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise InputError(f"{path}: file not found; see datasets/README.md for what a folder data set holds") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _read_classes(path: Path) -> list[str]:
    names: dict[str, int] = {}
    for line, text in enumerate(_read_lines(path), start=1):
        name = text.strip()
        if ";" in name:
            raise InputError(f"{path}: line {line}: class {name!r} holds ';', which joins labels; rename it")
        if name in names:
            raise InputError(f"{path}: line {line}: class {name!r} is also in line {names[name]}; remove one")
        if name:
            names[name] = line
    if not names:
        raise InputError(f"{path}: no class; write one class name a line")
    return list(names)


def _read_labels(path: Path, class_names: list[str]) -> dict[str, tuple[int, list[int]]]:
    """{file name: (line, sorted class indices)} in the order of the table."""
    indices = {name: index for index, name in enumerate(class_names)}
    rows: dict[str, tuple[int, list[int]]] = {}
    table = _read_rows(path)
    line, header = next(table, (1, []))
    if header != _HEADER:
        raise InputError(f"{path}: line {line}: the header is {','.join(header)!r}; it must be {','.join(_HEADER)!r}")
    for line, cells in table:
        where = f"{path}: line {line}"
        if len(cells) != len(_HEADER):
            raise InputError(f"{where}: {len(cells)} fields where 2 are due (file_name,labels); join labels with ';'")
        file_name = _inside(cells[0], where)
        if file_name in rows:
            raise InputError(
                f"{where}: duplicate image id {file_name!r}, which is also in line {rows[file_name][0]}; remove one"
            )
        labels = {label.strip() for label in cells[1].split(";")} - {""}
        for label in sorted(labels - indices.keys()):
            raise InputError(f"{where}: label {label!r} is not in {path.with_name('classes.txt')}; add or correct it")
        rows[file_name] = line, sorted(indices[label] for label in labels)
    return rows


def _read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of the rows of a table that are not blank."""
    reader = csv.reader(_read_lines(path))
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: not a CSV row ({error})") from error


def _inside(file_name: str, where: str) -> str:
    """The file name in its shortest form; refuses one that leaves the image folder."""
    path = PurePosixPath(file_name)
    if not path.name or path.is_absolute() or PureWindowsPath(file_name).drive or ".." in path.parts:
        raise InputError(f"{where}: file name {file_name!r} is not inside images/; give it relative to that folder")
    return str(path)


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
