"""Folder datasets: images and their labels in one of the forms of `label_files.py`; see datasets/README.md.

Training and metrics ignore unknown labels (-1 in a table). Without files of labels, the labels of an image are the
categories of its boxes in `instances_<split>.json`.
"""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from mlickd.decoding import image_size
from mlickd.errors import InputError, shorten_list

from ..records import MultiLabelDataset, PackedRecords
from .coco import CocoFile, load_coco_multilabel, read_coco
from .dataset_files import DatasetSource, ImageFolder, read_text
from .label_files import (
    REMEDY,
    LabelFile,
    find_labels,
    read_classes,
    read_coco_labels,
    read_cvat,
    read_label_studio,
    read_table,
)

logger = logging.getLogger(__name__)


def folder_sources(folder: Path) -> dict[str, DatasetSource]:
    """Return the splits of a folder dataset by name."""
    sources = {split: (path, partial(load_folder_dataset, folder, split)) for split, path, *_ in find_labels(folder)}
    # `Path.exists` fails in a folder without permissions, such as `lost+found`.
    if not sources and not os.path.exists(folder / "classes.txt"):
        for path in sorted(folder.glob("instances_*.json")):
            sources[path.stem.split("_", 1)[1]] = path, partial(load_coco_multilabel, path, folder / "images")
    return {split: DatasetSource((path,), load) for split, (path, load) in sources.items()}


def load_folder_dataset(folder: str | os.PathLike[str], split: str) -> MultiLabelDataset:
    """Read a split of a folder dataset. The image id is the file name below the folder of the images.

    The classes are the lines of `classes.txt`, or without this file the classes of all label files of the folder.
    Text files are as in :func:`read_text`. Windows line ends and blank lines are accepted.

    Raises:
        InputError: a file is missing or wrong; the message names the file and, if possible, the line.
    """
    folder = Path(folder)
    sources = {}
    for name, *source in find_labels(folder):
        if name in sources:
            raise InputError(f"{source[0]} and {sources[name][0]} have the labels of {name!r}; keep one")
        sources[name] = source
    table, image_root, read = sources.setdefault(split, [folder / f"labels_{split}.csv", folder / "images", read_table])
    classes = folder / "classes.txt"
    class_names = read_classes(classes) if classes.exists() else []
    used = [split] if class_names else sources
    contents = {name: sources[name][2](sources[name][0], class_names) for name in used}
    if not class_names:
        classes, lists = table, [names for content in contents.values() if (names := content.class_names())]
        if not lists:
            raise InputError(f"{table}: has no label; export it with labels, or write classes.txt")
        class_names = lists[0] if lists.count(lists[0]) == len(lists) else sorted(set().union(*lists))
        # A table needs a column for each class, also for the classes of other tables.
        if read is read_table and contents[split].class_names() != class_names:
            contents[split] = read_table(table, class_names)
    images = ImageFolder(image_root)
    rows = _image_labels(contents[split], images, class_names, classes)
    instances = folder / f"instances_{split}.json"
    file = read_coco(instances) if instances.exists() else None
    found = [images.find(image.file_name) for image in file.images] if file else []
    image_names = [names[0] if len(names) == 1 else "" for names in found]
    if repeated := [name for name, count in Counter(filter(None, image_names)).items() if count > 1]:
        raise InputError(f"{instances}: several images have a 'file_name' that means {repeated[0]}; correct them")
    listed = dict(zip(image_names, file.images if file else (), strict=True))
    records, problems = [], []
    for name, (labels, ignored) in rows.items():
        path = os.path.join(images.root, name)
        try:
            height, width = listed[name].size(path) if name in listed else image_size(path)
        except InputError as error:
            problems.append(str(error))
            continue
        record = {"file_name": path, "height": height, "width": width, "image_id": name, "labels": sorted(labels)}
        records.append({**record, "ignored_labels": sorted(ignored)} if ignored else record)
    if problems:
        raise InputError(f"{table}: {len(problems)} of {len(rows)} images cannot be used: {shorten_list(problems, 20)}")
    boxes = _match_boxes(file, image_names, records, class_names, classes) if file else None
    return MultiLabelDataset(PackedRecords(records, boxes), class_names, f"{contents[split].format}, {table}")


def read_photo_labels(file: Path, photos: Path) -> tuple[list[str], dict[str, tuple[set[int], set[int]]]]:
    """Return the class names and {file name below ``photos``: (labels, unknown labels)} from a label file of any name.

    The classes are the lines of a `classes.txt` next to the file, by default the classes of the file.
    """
    reader = {".json": read_label_studio, ".xml": read_cvat}.get(file.suffix.lower(), read_table)
    if reader is read_label_studio and read_text(file, REMEDY).lstrip()[:1] == "{":
        reader = read_coco_labels
    classes = file.with_name("classes.txt")
    given = read_classes(classes) if classes.exists() else []
    content = reader(file, given)
    class_names = given or content.class_names()
    return class_names, _image_labels(content, ImageFolder(photos), class_names, classes if given else file)


def _image_labels(
    content: LabelFile, images: ImageFolder, class_names: list[str], classes: Path
) -> dict[str, tuple[set[int], set[int]]]:
    """Return {file name: (labels, ignored labels)}, class indices, in the order of the rows."""
    indices = {name: index for index, name in enumerate(class_names)}
    rows: dict[str, tuple[set[int], set[int]]] = {}
    for where, file_name, labels, unknown in content.rows:
        name = images.find_one(file_name, where)
        if wrong := [label for label in (*labels, *unknown) if label not in indices]:
            raise InputError(
                f"{where}: label {wrong[0]!r} is not a class of {classes}; correct it, or join several labels with ';'"
            )
        values = {indices[label] for label in labels}, {indices[label] for label in unknown}
        if rows.setdefault(name, values) != values and not content.rows_add_up:
            raise InputError(f"{where}: {name!r} is listed twice, with other labels; remove one")
        rows[name][0].update(values[0])
    return rows


def _match_boxes(
    file: CocoFile, image_names: Sequence[str], records: Sequence[dict], class_names: Sequence[str], classes: Path
) -> list[np.ndarray | None]:
    """Return the boxes of each record. ``image_names`` are the image ids of the images in the COCO-format file."""
    known = {name: index for index, name in enumerate(class_names)}
    used = [file.category_names[index] for index in np.unique(file.annotations["category"])]
    if unknown := [name for name in used if name not in known]:
        raise InputError(f"{file.path}: categories that are not in {classes}: {shorten_list(unknown)}; rename them")
    by_name = {record["image_id"]: index for index, record in enumerate(records)}
    places = np.array([by_name.get(name, -1) for name in image_names], dtype=np.int64)
    if (places < 0).all():
        raise InputError(f"{file.path}: lists no image of this split; write 'file_name' as in the table of labels")
    for problem, count in (
        ("images that are not in this split", (places < 0).sum()),
        ("images of this split that the file does not list", len(records) - len(set(places.tolist()) - {-1})),
    ):
        if count:
            logger.warning("%s: %s: %d", file.path, problem, count)
    indices = np.array([known.get(name, -1) for name in file.category_names], dtype=np.int64)
    return file.record_boxes(places, records, indices)
