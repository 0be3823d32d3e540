"""PASCAL VOC 2007 and 2012 from the official devkit; datasets/README.md shows the files.

The labels of an image are the classes of the objects in its XML file, which also has the size and the boxes. The
per-class files (`ImageSets/Main/cat_train.txt`) are not used.
"""

import logging
import os
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from mlickd.errors import InputError

from ..records import BOX, MultiLabelDataset, PackedRecords
from .dataset_files import DatasetSource, ImageFolder, parse_xml, read_text, read_unique_lines, relative_name

logger = logging.getLogger(__name__)

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
_SPLITS = {2007: ("train", "val", "trainval", "test"), 2012: ("train", "val", "trainval")}
_REMEDY = "put Annotations, ImageSets and JPEGImages of the devkit into this VOC2007 or VOC2012"


def voc_sources(root: Path) -> dict[str, DatasetSource]:
    """Return the sources by dataset name.

    Names are `voc_<year>_<split>_multilabel`, and its variants with the suffix `_difficult_positive` or
    `_difficult_negative`, see :func:`load_voc_multilabel`.
    """
    sources = {}
    for year, splits in _SPLITS.items():
        folder = root / f"VOC{year}"
        for split in splits:
            files = tuple(folder / part for part in (f"ImageSets/Main/{split}.txt", "Annotations", "JPEGImages"))
            for difficult_labels in ("ignored", "positive", "negative"):
                suffix = "" if difficult_labels == "ignored" else f"_difficult_{difficult_labels}"
                load = partial(load_voc_multilabel, folder, split, difficult_labels=difficult_labels)
                sources[f"voc_{year}_{split}_multilabel{suffix}"] = DatasetSource(files, load, {"year": year})
    return sources


def load_voc_multilabel(
    folder: str | os.PathLike[str], split: str, *, difficult_labels: str = "ignored"
) -> MultiLabelDataset:
    """Read a split of a VOC devkit. The image id is the name of the image in the devkit.

    Args:
        folder: `VOC2007` or `VOC2012`.
        split: name of a file in `ImageSets/Main`.
        difficult_labels: label of a class if all of its objects in an image are marked difficult: `ignored` (by
            training and metrics, as in VOC's evaluation), `positive` or `negative`.

    Raises:
        InputError: a file is missing or corrupt, or an image is listed twice.
    """
    folder = Path(folder)
    image_set = folder / "ImageSets" / "Main" / f"{split}.txt"
    image_ids = read_unique_lines(image_set, _REMEDY, relative_name)
    images = ImageFolder(folder / "JPEGImages")
    records, boxes, clipped = [], [], []
    for image_id in image_ids:
        annotation_file = folder / "Annotations" / f"{image_id}.xml"
        height, width, objects = _read_annotation(annotation_file)
        certain = {label for *_, label, _, is_difficult in objects if not is_difficult}
        only_difficult = {label for *_, label, _, _ in objects} - certain
        record = {
            "file_name": os.path.join(images.root, images.find_one(f"{image_id}.jpg", image_set)),
            "height": height,
            "width": width,
            "image_id": image_id,
            "labels": sorted(certain | only_difficult if difficult_labels == "positive" else certain),
        }
        if only_difficult and difficult_labels == "ignored":
            record["ignored_labels"] = sorted(only_difficult)
        inside = [
            (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)), *rest)
            for x0, y0, x1, y1, *rest in objects
        ]
        if inside != objects:
            clipped.append(annotation_file)
        records.append(record)
        boxes.append(np.array([box for box in inside if box[0] < box[2] and box[1] < box[3]], dtype=BOX))
    if clipped:
        text = "%s: clipped boxes that extend beyond the image, in %d images, for example %s"
        logger.warning(text, image_set, len(clipped), clipped[0])
    return MultiLabelDataset(PackedRecords(records, boxes), list(VOC_CLASSES), "devkit of PASCAL VOC")


def _read_annotation(path: Path) -> tuple[int, int, list[tuple]]:
    """Return height, width, and the objects as rows of `BOX`, not clipped to the image."""
    text = read_text(path, _REMEDY)
    objects = []
    try:
        tree = parse_xml(text)
        height, width = (int(tree.findtext(f"size/{side}")) for side in ("height", "width"))
        for item in tree.iterfind("object"):
            x0, y0, x1, y1 = (float(item.findtext(f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax"))
            label = VOC_CLASSES.index(item.findtext("name", "").strip())
            is_difficult = item.findtext("difficult", "0").strip() == "1"
            # Pixels are counted from 1, and the last pixel belongs to the box.
            objects.append((x0 - 1, y0 - 1, x1, y1, label, 0, int(is_difficult)))
        if min(height, width) < 1 or not all(x0 < x1 and y0 < y1 for x0, y0, x1, y1, *_ in objects):
            raise ValueError("the image size or a box is empty")
    except (ElementTree.ParseError, ValueError, TypeError) as error:
        raise InputError(f"{path}: is not an annotation of VOC ({error}); unpack the devkit again") from error
    return height, width, objects
