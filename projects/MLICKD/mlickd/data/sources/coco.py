"""COCO-format datasets as multi-label datasets: an image's labels are the categories of its boxes."""

from __future__ import annotations

import codecs
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from mlickd.errors import InputError

from ..decoding import image_size
from ..records import BOX, MultiLabelDataset, PackedRecords, label_lists
from .dataset_files import DatasetSource, ImageFolder, relative_name

logger = logging.getLogger(__name__)

# Arguments of `load_coco_multilabel` by the ending of a dataset's name.
COCO_PROTOCOLS = {
    "": {},
    "_labeled": {"keep_unlabeled": False},
    "_no_crowd": {"crowd_labels": False},
    "_labeled_no_crowd": {"keep_unlabeled": False, "crowd_labels": False},
}

_BORDER_TOLERANCE = 1.0  # pixels: annotation tools round

_ANNOTATION = np.dtype([("image", int), ("category", int), ("bbox", float, 4), ("iscrowd", bool)])

_Pixels = Annotated[int, msgspec.Meta(gt=0)]


# The decoder skips all other content. The outlines of objects are most of the file, and would be most of the memory.
# `gc=False`: these objects cannot be part of a reference cycle, so the garbage collector need not look at them.
class _Category(msgspec.Struct, gc=False):
    id: int
    name: str


class CocoImage(msgspec.Struct, gc=False):
    """An image as the file describes it."""

    id: int | str
    file_name: str
    height: _Pixels | None = None
    width: _Pixels | None = None

    def size(self, path: str) -> tuple[int, int]:
        """Return (height, width) in pixels, from the header of the image file ``path`` if the JSON file has no size."""
        return (self.height, self.width) if self.height and self.width else image_size(path)


class _Annotation(msgspec.Struct, gc=False):
    image_id: int | str
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int | bool | None = 0


class _Content(msgspec.Struct):
    images: list[CocoImage]
    categories: list[_Category]
    annotations: list[_Annotation]


@dataclass(frozen=True)
class CocoFile:
    """The content of a COCO-format file.

    Attributes:
        path: path of the file.
        category_names: names of the categories, in the order of their ids.
        images: images in the order of the file.
        annotations: (M,) array with the fields ``image`` and ``category``, indices in the lists above; ``bbox``
            (x, y, width, height) in pixels, not yet checked; and ``iscrowd``, whether it is the box of a crowd.
    """

    path: str
    category_names: list[str]
    images: list[CocoImage]
    annotations: np.ndarray

    def record_boxes(
        self, places: np.ndarray, records: Sequence[dict], classes: np.ndarray, *, allow_empty: bool
    ) -> list[np.ndarray | None]:
        """Return the boxes of each record as an array of `BOX`, checked and clipped to the image.

        Args:
            places: (len(images),) int64, index in ``records`` of each image; -1 for an image that is not wanted.
            records: dicts with ``height`` and ``width`` in pixels.
            classes: (len(category_names),) int64, class index of each category.
            allow_empty: leave out boxes without area, with a warning (COCO itself has a few); else refuse them.

        Returns:
            For each record its boxes in the order of the file; None if no image is its own.

        Raises:
            InputError: a box is not finite, has a negative size or no area, or leaves the image.
        """
        owners = places[self.annotations["image"]]
        order = np.argsort(owners, kind="stable")[np.count_nonzero(owners < 0) :]
        owners, annotations = owners[order], self.annotations[order]
        sizes = np.array([(record["height"], record["width"]) for record in records], dtype=np.int64).reshape(-1, 2)
        height, width = sizes[owners].T
        x, y, box_width, box_height = annotations["bbox"].T
        boxes = np.zeros(len(order), dtype=BOX)
        boxes["x0"], boxes["x1"] = np.maximum(x, 0), np.minimum(x + box_width, width)
        boxes["y0"], boxes["y1"] = np.maximum(y, 0), np.minimum(y + box_height, height)
        boxes["category_id"], boxes["iscrowd"] = classes[annotations["category"]], annotations["iscrowd"]
        has_area = (boxes["x0"] < boxes["x1"]) & (boxes["y0"] < boxes["y1"])
        # Distance to the nearest border; all comparisons with NaN are false.
        inside = np.minimum(np.minimum(x, y), np.minimum(width - x - box_width, height - y - box_height))
        good = (inside >= -_BORDER_TOLERANCE) & (box_width >= 0) & (box_height >= 0) & (has_area | allow_empty)
        for wrong, refused in ((~good, True), (~has_area, False)):
            if wrong.any():
                first = annotations[wrong][0]
                numbers = ", ".join(f"{value:g}" for value in first["bbox"])
                text = (
                    f"{self.path}: image {self.images[first['image']].id}: 'bbox' [{numbers}] has no area, or is not "
                    "inside the image; give [x, y, width, height] in pixels"
                )
                if refused:
                    raise InputError(text)
                logger.warning("%s; boxes left out: %d", text, wrong.sum())
        boxes, owners = boxes[has_area], owners[has_area]
        ends = np.searchsorted(owners, np.arange(len(records)), side="right").tolist()
        found: list[np.ndarray | None] = [None] * len(records)
        for place in places[places >= 0].tolist():
            found[place] = boxes[ends[place - 1] if place else 0 : ends[place]]
        return found


def read_coco(path: str | os.PathLike[str]) -> CocoFile:
    """Read a COCO-format file.

    Raises:
        InputError: the file is missing or not in COCO format, has an id twice, or refers to an unknown id.
    """
    path = os.fspath(path)
    try:
        content = msgspec.json.decode(Path(path).read_bytes().removeprefix(codecs.BOM_UTF8), type=_Content)
    except FileNotFoundError:
        raise InputError(f"{path}: annotation file not found; put it there") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error).replace("`", "'")
        raise InputError(f"{path}: not in COCO format ({reason}); see https://cocodataset.org/#format-data") from error
    ordered = sorted(content.categories, key=lambda category: category.id)
    names = [category.name for category in ordered]
    for what, values in (
        ("the id of images", [image.id for image in content.images]),
        ("the id of categories", [category.id for category in ordered]),
        ("the name of categories", names),
    ):
        if len(set(values)) < len(values):
            raise InputError(f"{path}: {Counter(values).most_common(1)[0][0]!r} is {what} twice; rename one")
    images = {image.id: index for index, image in enumerate(content.images)}
    categories = {category.id: index for index, category in enumerate(ordered)}
    try:
        annotations = [(images[a.image_id], categories[a.category_id], a.bbox, a.iscrowd) for a in content.annotations]
    except KeyError as error:
        raise InputError(f"{path}: an annotation has the image_id or category_id {error}, which is not there") from None
    return CocoFile(path, names, content.images, np.array(annotations, dtype=_ANNOTATION))


def coco_sources(root: Path) -> dict[str, DatasetSource]:
    """Return COCO 2014 and 2017 in `root/coco`: `coco_<year>_<split>_multilabel`, with each ending of a protocol."""
    sources = {}
    for split in ("train", "val"):
        for year in (2014, 2017):
            json_file = root / "coco" / "annotations" / f"instances_{split}{year}.json"
            images = root / "coco" / f"{split}{year}"
            for ending, protocol in COCO_PROTOCOLS.items():
                load = partial(load_coco_multilabel, json_file, images, **protocol)
                sources[f"coco_{year}_{split}_multilabel{ending}"] = DatasetSource((json_file, images), load)
    return sources


def load_coco_multilabel(
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    *,
    crowd_labels: bool = True,
    keep_unlabeled: bool = True,
) -> MultiLabelDataset:
    """Read a COCO-format file and its images as a multi-label dataset.

    Classes are the categories of the file, in the order of their ids. Sizes come from the file, as in Detectron2.

    Args:
        json_file: path of the COCO-format file.
        image_root: folder that the `file_name` of each image is relative to.
        crowd_labels: whether a crowd region (`iscrowd`) makes its category a label of the image. With crowds, 82,081
            images of COCO train2014 and 40,137 of val2014 have a label: the usual multi-label protocol.
        keep_unlabeled: whether images without a label are kept, as negatives of all classes.

    Raises:
        InputError: the file is not in COCO format, a box is wrong, or an image is missing.
    """
    json_file = os.fspath(json_file)
    folder = ImageFolder(image_root, json_file)
    file = read_coco(json_file)
    counted = file.annotations if crowd_labels else file.annotations[~file.annotations["iscrowd"]]
    present = np.zeros((len(file.images), len(file.category_names)), dtype=bool)
    present[counted["image"], counted["category"]] = True
    places = np.full(len(file.images), -1)
    records = []
    for index, (image, labels) in enumerate(zip(file.images, label_lists(present), strict=True)):
        path = folder.require(relative_name(image.file_name, f"{json_file}: image {image.id}", f"{folder.root}/"))
        if labels or keep_unlabeled:
            places[index] = len(records)
            height, width = image.size(path)
            record = {"file_name": path, "height": height, "width": width, "image_id": image.id, "labels": labels}
            records.append(record)
    boxes = file.record_boxes(places, records, np.arange(len(file.category_names)), allow_empty=True)
    return MultiLabelDataset(PackedRecords(records, boxes), file.category_names, folder.root)


def register_coco_multilabel(
    name: str, json_file: str | os.PathLike[str], image_root: str | os.PathLike[str], **protocol: bool
) -> None:
    """Register a COCO-format dataset under a name; nothing is read before it is used.

    See :func:`load_coco_multilabel` for the arguments.
    """

    def load() -> list[dict]:
        dataset = load_coco_multilabel(json_file, image_root, **protocol)
        MetadataCatalog.get(name).set(thing_classes=dataset.class_names, box_classes=dataset.records.box_classes())
        return list(dataset.records)

    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        json_file=os.fspath(json_file), image_root=os.fspath(image_root), evaluator_type="multilabel"
    )
