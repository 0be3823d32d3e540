"""Folder datasets: a folder of images with a list of classes and a table of labels; see datasets/README.md.

The table has all labels in one column, or a column for each class with 1 (in the image), 0 (not in the image) or -1
(unknown). Training and metrics ignore -1. An empty cell is an error, because programs use it for 0 and for -1.

    file_name,labels              file_name,cat,dog
    rex.jpg,dog;cat               rex.jpg,1,1
    garden/0001.png,              garden/0001.png,0,-1

Without `classes.txt` and tables, the labels of an image are the categories of its boxes in `instances_<split>.json`.
"""

import csv
import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from mlickd.errors import InputError, shorten_list

from ..decoding import image_size
from ..records import MultiLabelDataset, PackedRecords
from .coco import CocoFile, load_coco_multilabel, read_coco
from .dataset_files import DatasetSource, ImageFolder, read_text, read_unique_lines, relative_name

logger = logging.getLogger(__name__)

_REMEDY = "write it as datasets/README.md shows"

_CELLS = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1}  # pandas may write a decimal point


def folder_sources(folder: Path) -> dict[str, DatasetSource]:
    """Return the splits of a folder dataset by name."""
    # `Path.exists` fails in a folder without permissions, such as `lost+found`.
    only_boxes = not os.path.exists(folder / "classes.txt") and not any(folder.glob("labels_*.csv"))
    sources = {}
    for path in sorted(folder.glob("instances_*.json" if only_boxes else "labels_*.csv")):
        split = path.stem.split("_", 1)[1]
        load = partial(load_folder_dataset, folder, split)
        if only_boxes:
            load = partial(load_coco_multilabel, path, folder / "images")
        sources[split] = DatasetSource((path,), load)
    return sources


def load_folder_dataset(folder: str | os.PathLike[str], split: str) -> MultiLabelDataset:
    """Read a split of a folder dataset. The image id is the file name below `images/`.

    Text files are UTF-8. A byte order mark, Windows line ends and blank lines are accepted.

    Raises:
        InputError: a file is missing or wrong; the message names the file and, if possible, the line.
    """
    folder = Path(folder)
    class_names = read_unique_lines(folder / "classes.txt", _REMEDY)
    table = folder / f"labels_{split}.csv"
    rows = _read_table(table, class_names)
    instances = folder / f"instances_{split}.json"
    file = read_coco(instances) if instances.exists() else None
    listed = {str(PurePosixPath(image.file_name)): image for image in file.images} if file else {}
    images = ImageFolder(folder / "images", table)
    records = []
    for name, (labels, ignored) in rows.items():
        path = images.require(name)
        height, width = listed[name].size(path) if name in listed else image_size(path)
        record = {"file_name": path, "height": height, "width": width, "image_id": name, "labels": labels}
        records.append({**record, "ignored_labels": ignored} if ignored else record)
    boxes = _match_boxes(file, records, class_names, folder / "classes.txt") if file else None
    return MultiLabelDataset(PackedRecords(records, boxes), class_names, images.root)


def _read_table(path: Path, class_names: Sequence[str]) -> dict[str, tuple[list[int], list[int]]]:
    """Return {file name: (labels, ignored labels)}, sorted class indices, in the order of the table."""
    indices = {name: index for index, name in enumerate(class_names)}
    classes = path.with_name("classes.txt")
    reader = csv.reader(read_text(path, _REMEDY).split("\n"))
    try:
        lines = [(f"{path}: line {reader.line_num}", [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: not a CSV row ({error}); save the table as CSV") from error
    (where, header), *lines = [line for line in lines if any(line[1])] or [(path, [])]
    if header != ["file_name", "labels"] and sorted(header) != sorted(["file_name", *class_names]):
        raise InputError(
            f"{where}: the header is {shorten_list(header)!r}; write 'file_name,labels', or 'file_name' and each class "
            f"of {classes} once, with commas between them"
        )
    rows: dict[str, tuple[list[int], list[int]]] = {}
    for where, cells in lines:
        if len(cells) != len(header):
            raise InputError(
                f"{where}: {len(cells)} fields, but the header has {len(header)}; join labels with ';', or give each "
                "class its cell"
            )
        values = dict(zip(header, cells, strict=True))
        name = relative_name(values.pop("file_name"), where)
        if header == ["file_name", "labels"]:
            values = {label.strip(): "1" for label in cells[1].split(";") if label.strip()}
        wrong = next((label for label in values if label not in indices or values[label] not in _CELLS), None)
        if wrong is not None or name in rows:
            if name in rows:
                problem = f"{name!r} is listed twice; remove one"
            elif wrong in indices:
                problem = f"{values[wrong]!r} for class {wrong!r}; write 1 (present), 0 (absent) or -1 (unknown)"
            else:
                problem = f"label {wrong!r} is not in {classes}"
            raise InputError(f"{where}: {problem}")
        labels, ignored = (
            sorted(indices[label] for label, cell in values.items() if _CELLS[cell] == value) for value in (1, -1)
        )
        rows[name] = labels, ignored
    return rows


def _match_boxes(
    file: CocoFile, records: Sequence[dict], class_names: Sequence[str], classes: Path
) -> list[np.ndarray | None]:
    """Return the boxes of each record. The images of the COCO-format file are matched by file name."""
    known = {name: index for index, name in enumerate(class_names)}
    used = [file.category_names[index] for index in np.unique(file.annotations["category"])]
    if unknown := [name for name in used if name not in known]:
        raise InputError(f"{file.path}: categories that are not in {classes}: {shorten_list(unknown)}; rename them")
    by_name = {record["image_id"]: index for index, record in enumerate(records)}
    places = np.array([by_name.get(str(PurePosixPath(image.file_name)), -1) for image in file.images], dtype=np.int64)
    if (places < 0).all():
        raise InputError(f"{file.path}: lists no image of this split; write 'file_name' as in the table of labels")
    for problem, count in (
        ("images that are not in this split", (places < 0).sum()),
        ("images of this split that the file does not list", len(records) - len(set(places.tolist()) - {-1})),
    ):
        if count:
            logger.warning("%s: %s: %d", file.path, problem, count)
    indices = np.array([known.get(name, -1) for name in file.category_names], dtype=np.int64)
    return file.record_boxes(places, records, indices, allow_empty=False)
