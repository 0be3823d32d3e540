"""COCO-format datasets as multi-label datasets: an image's labels are the categories of its boxes."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from mlickd.errors import InputError

from ..packed_records import PackedRecords
from ..records import MultiLabelDataset, label_lists
from .coco_format import box_columns, read_coco
from .image_folder import ImageFolder, relative_name
from .source import DatasetSource

# What the end of a name asks for: arguments of `load_coco_multilabel`.
COCO_PROTOCOLS = {
    "": {},
    "_labeled": {"keep_unlabeled": False},
    "_no_crowd": {"crowd_labels": False},
    "_labeled_no_crowd": {"keep_unlabeled": False, "crowd_labels": False},
}


def coco_sources(root: Path) -> dict[str, DatasetSource]:
    """COCO 2014 and 2017 in `root/coco`: `coco_<year>_<split>_multilabel`, and that name with a protocol's end."""
    sources = {}
    for split in ("train", "val"):
        for year in (2014, 2017):
            json_file = root / "coco" / "annotations" / f"instances_{split}{year}.json"
            images = root / "coco" / f"{split}{year}"
            for end, protocol in COCO_PROTOCOLS.items():
                load = partial(load_coco_multilabel, json_file, images, **protocol)
                sources[f"coco_{year}_{split}_multilabel{end}"] = DatasetSource((json_file, images), load)
    return sources


def load_coco_multilabel(
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    *,
    crowd_labels: bool = True,
    keep_unlabeled: bool = True,
) -> MultiLabelDataset:
    """Read a COCO-format file and its images as a multi-label dataset.

    Classes are the file's categories in the order of their ids. Sizes are taken from the file, as Detectron2 does.

    Args:
        json_file: in COCO format, with `width` and `height` of every image.
        image_root: directory that the `file_name` of the images is relative to.
        crowd_labels: whether a crowd region (`iscrowd`) makes its category a label of the image. With crowds, 82,081
            images of COCO train2014 and 40,137 of val2014 have a label: the usual multi-label protocol.
        keep_unlabeled: whether images without any label are kept, as negatives of all classes.

    Raises:
        InputError: the file is not in COCO format, a box is wrong, an image is listed twice or its file is missing.
    """
    json_file = os.fspath(json_file)
    folder = ImageFolder(image_root, json_file)
    file = read_coco(json_file)
    labeled = slice(None) if crowd_labels else ~file.crowd
    present = np.zeros((len(file.images), len(file.category_names)), dtype=bool)
    present[file.owners[labeled], file.categories[labeled]] = True
    kept = np.full(len(file.images), -1)
    ids: dict[str, object] = {}
    records = []
    for index, (image, labels) in enumerate(zip(file.images, label_lists(present), strict=True)):
        where = f"{json_file}: image {image.id}"
        name = relative_name(image.file_name, where, f"{folder.root}/")
        path = folder.require(name)
        if ids.setdefault(name, image.id) != image.id:
            raise InputError(f"{where}: {name!r} is also image {ids[name]}; merge the two entries")
        if min(image.height or 0, image.width or 0) < 1:
            raise InputError(f"{where}: 'height' and 'width' must be positive integers; give those of the image")
        if labels or keep_unlabeled:
            kept[index] = len(records)
            record = {"file_name": path, "height": image.height, "width": image.width, "image_id": image.id}
            records.append({**record, "labels": labels})
    sizes = np.array([(record["height"], record["width"]) for record in records]).reshape(-1, 2)
    boxes = box_columns(file, kept, sizes, file.categories, allow_empty=True)
    return MultiLabelDataset(PackedRecords(records, boxes), file.category_names, boxes.box_classes(), folder.root)


def register_coco_multilabel(
    name: str,
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    *,
    crowd_labels: bool = True,
    keep_unlabeled: bool = True,
) -> None:
    """Register a COCO-format dataset under `name`; nothing is read before it is used.

    The arguments are those of `load_coco_multilabel`.
    """

    def load() -> list[dict]:
        dataset = load_coco_multilabel(json_file, image_root, crowd_labels=crowd_labels, keep_unlabeled=keep_unlabeled)
        MetadataCatalog.get(name).set(thing_classes=dataset.class_names, box_classes=dataset.box_classes)
        return list(dataset.records)

    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        json_file=os.fspath(json_file), image_root=os.fspath(image_root), evaluator_type="multilabel"
    )
