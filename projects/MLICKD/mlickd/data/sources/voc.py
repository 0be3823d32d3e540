"""PASCAL VOC 2007 and 2012 from the official devkit.

VOC2007/, VOC2012/
  Annotations/<id>.xml          size and objects of an image
  ImageSets/Main/<split>.txt    ids, one a line
  JPEGImages/<id>.jpg

Labels are those of the objects in the XML files, which sizes and boxes need in any case: one file says all of an
image. The devkit's tables of a class (`ImageSets/Main/cat_train.txt`: 1, -1, and 0 where every object is difficult) are
not read.
"""

from __future__ import annotations

import logging
import math
import os
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from detectron2.structures import BoxMode

from mlickd.errors import InputError

from ..packed_records import PackedRecords
from ..records import MultiLabelDataset
from ..text_files import read_lines, read_text
from .image_folder import ImageFolder, relative_name
from .source import DatasetSource

logger = logging.getLogger(__name__)

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
_INDICES = {name: index for index, name in enumerate(VOC_CLASSES)}
_SPLITS = {2007: ("train", "val", "trainval", "test"), 2012: ("train", "val", "trainval")}
DIFFICULT = ("ignored", "positive", "negative")
_REMEDY = "unpack the devkit again"


def voc_sources(root: Path) -> dict[str, DatasetSource]:
    """`voc_<year>_<split>_multilabel`, and that name with `_difficult_positive` or `_difficult_negative` behind it."""
    sources = {}
    for year, splits in _SPLITS.items():
        directory = root / f"VOC{year}"
        for split in splits:
            files = tuple(directory / part for part in (f"ImageSets/Main/{split}.txt", "Annotations", "JPEGImages"))
            for difficult in DIFFICULT:
                end = "" if difficult == "ignored" else f"_difficult_{difficult}"
                load = partial(load_voc_multilabel, directory, split, difficult=difficult)
                sources[f"voc_{year}_{split}_multilabel{end}"] = DatasetSource(files, load, {"year": year})
    return sources


def load_voc_multilabel(
    directory: str | os.PathLike[str], split: str, *, difficult: str = "ignored"
) -> MultiLabelDataset:
    """Read one split of a VOC devkit. The image id is that of the devkit.

    Args:
        directory: `VOC2007` or `VOC2012`.
        split: names a file in `ImageSets/Main`.
        difficult: what a class is whose objects in an image are all marked difficult: `ignored` (by training and
            metrics; what VOC's own evaluation does), `positive` or `negative`.

    Raises:
        InputError: a file is missing or damaged, or an image is listed twice.
    """
    if difficult not in DIFFICULT:
        raise ValueError(f"difficult {difficult!r} is none of {DIFFICULT}")
    directory = Path(directory)
    image_set = directory / "ImageSets" / "Main" / f"{split}.txt"
    lines: dict[str, int] = {}
    for line, text in read_lines(image_set, "see datasets/README.md for where VOC goes"):
        image_id = relative_name(text, f"{image_set}: line {line}", "JPEGImages/")
        if image_id in lines:
            raise InputError(f"{image_set}: line {line}: {image_id!r} is also in line {lines[image_id]}; remove one")
        lines[image_id] = line
    folder = ImageFolder(directory / "JPEGImages", image_set)
    records, odd = [], []
    for image_id, line in lines.items():
        file_name = folder.require(f"{image_id}.jpg", f" in line {line}")
        annotation_file = directory / "Annotations" / f"{image_id}.xml"
        height, width, annotations = _read_annotation(annotation_file)
        clear = {box["category_id"] for box in annotations if not box["difficult"]}
        unclear = {box["category_id"] for box in annotations} - clear
        record = {
            "file_name": file_name,
            "height": height,
            "width": width,
            "image_id": image_id,
            "labels": sorted(clear | unclear if difficult == "positive" else clear),
            "annotations": [_clipped(box, height, width) for box in annotations],
        }
        if unclear and difficult == "ignored":
            record["ignored_labels"] = sorted(unclear)
        if record["annotations"] != annotations:
            odd.append(annotation_file)
            record["annotations"] = [box for box in record["annotations"] if _has_area(box)]
        records.append(record)
    if odd:
        logger.warning(
            "%s: images with a box that leaves the image, now clipped: %d, the first is %s", image_set, len(odd), odd[0]
        )
    box_classes = sorted({box["category_id"] for record in records for box in record["annotations"]})
    return MultiLabelDataset(PackedRecords(records), list(VOC_CLASSES), box_classes, folder.root)


def _read_annotation(path: Path) -> tuple[int, int, list[dict]]:
    """(height, width, objects as Detectron2 annotations with `difficult`), the boxes as they are in the file."""
    text = read_text(path, _REMEDY)
    # No file of the devkit has a document type; the entities that one may declare can grow without bound.
    if "<!DOCTYPE" in text:
        raise InputError(f"{path}: has a document type declaration, which no VOC file has; {_REMEDY}")
    try:
        tree = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InputError(f"{path}: line {error.position[0]}: not readable XML ({error}); {_REMEDY}") from None
    height, width = (int(_number(tree, f"size/{side}", path)) for side in ("height", "width"))
    if min(height, width) < 1:
        raise InputError(f"{path}: size: {width}x{height} pixels; {_REMEDY}")
    annotations = []
    for number, item in enumerate(tree.findall("object"), start=1):
        where = f"{path}: object {number}"
        name = (item.findtext("name") or "").strip()
        if name not in _INDICES:
            raise InputError(f"{where}: {name!r} is not a class of VOC; correct it")
        x0, y0, x1, y1 = (_number(item, f"bndbox/{key}", where) for key in ("xmin", "ymin", "xmax", "ymax"))
        if x1 < x0 or y1 < y0:
            raise InputError(f"{where}: bndbox: {x0:g}, {y0:g}, {x1:g}, {y1:g} is inverted; correct it")
        annotations.append(
            {
                # Pixels are counted from 1 and the last one belongs to the box.
                "bbox": [x0 - 1, y0 - 1, x1, y1],
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": _INDICES[name],
                "iscrowd": 0,
                "difficult": int((item.findtext("difficult") or "0").strip() == "1"),
            }
        )
    return height, width, annotations


def _number(element: ElementTree.Element, tag: str, where: object) -> float:
    text = element.findtext(tag)
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: {tag.replace('/', ': ')}: {text!r} is not a number; {_REMEDY}")
    return value


def _clipped(box: dict, height: int, width: int) -> dict:
    x0, y0, x1, y1 = box["bbox"]
    return {**box, "bbox": [max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))]}


def _has_area(box: dict) -> bool:
    x0, y0, x1, y1 = box["bbox"]
    return x0 < x1 and y0 < y1
