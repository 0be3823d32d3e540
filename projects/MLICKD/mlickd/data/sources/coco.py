"""COCO-format datasets as multi-label datasets: the labels of an image are the categories of its boxes."""

import codecs
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from mlickd.decoding import image_size
from mlickd.errors import InputError

from ..records import BOX, MultiLabelDataset, PackedRecords, label_lists
from .dataset_files import DatasetSource, ImageFolder, normalize_name

logger = logging.getLogger(__name__)

_BORDER_TOLERANCE = 1.0  # pixels, because annotation tools round

_ANNOTATION = np.dtype([("image", int), ("category", int), ("bbox", float, 4), ("iscrowd", bool)])

_Pixels = Annotated[float, msgspec.Meta(gt=0)]  # some tools write whole numbers as 640.0


# The decoder skips all other content, such as the segmentations of objects, which are most of the file.
# `gc=False`: the garbage collector need not scan these objects, because they cannot be part of a reference cycle.
class _Category(msgspec.Struct, gc=False):
    id: int | float | str
    name: str


class CocoImage(msgspec.Struct, gc=False):
    """An image in the file."""

    id: int | float | str
    file_name: str
    height: _Pixels | None = None
    width: _Pixels | None = None

    def __post_init__(self) -> None:
        if isinstance(self.id, float):
            self.id = int(self.id)

    def size(self, path: str) -> tuple[int, int]:
        """Return (height, width) in pixels. If the file lacks them, read them from the header of the image ``path``."""
        return (int(self.height), int(self.width)) if self.height and self.width else image_size(path)


class _Annotation(msgspec.Struct, gc=False):
    image_id: int | float | str
    category_id: int | float | str
    bbox: tuple[float, float, float, float]
    iscrowd: int | float | bool | None = 0


class _Content(msgspec.Struct):
    images: list[CocoImage]
    categories: list[_Category]
    annotations: list[_Annotation]


@dataclass(frozen=True)
class CocoFile:
    """The content of a COCO-format file.

    Attributes:
        category_names: distinct names of the categories, in the order of their ids.
        images: images in the order of the file.
        annotations: (M,) array with the fields ``image`` and ``category``, indices in the lists above; ``bbox``
            (x, y, width, height) in pixels, not yet checked; and ``iscrowd``, whether it is the box of a crowd.
    """

    path: str
    category_names: list[str]
    images: list[CocoImage]
    annotations: np.ndarray

    def record_boxes(self, places: np.ndarray, records: Sequence[dict], classes: np.ndarray) -> list[np.ndarray | None]:
        """Return the boxes of each record as an array of `BOX`, checked and clipped to the image.

        Boxes without area are left out with a warning, because COCO has a few.

        Args:
            places: (len(images),) int64, index in ``records`` of each image, or -1 for an image without a record.
            records: dicts with ``height`` and ``width`` in pixels.
            classes: (len(category_names),) int64, class index of each category.

        Returns:
            The boxes of each record in the order of the file; None for a record without an image in the file.

        Raises:
            InputError: a box is not finite, has a negative size, or is not inside the image.
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
        wrong = ~((inside >= -_BORDER_TOLERANCE) & (box_width >= 0) & (box_height >= 0))
        for found in (wrong, ~has_area):
            if found.any():
                first = annotations[found][0]
                numbers = ", ".join(f"{value:g}" for value in first["bbox"])
                text = f"{self.path}: image {self.images[first['image']].id}: 'bbox' [{numbers}]"
                if found is wrong:
                    raise InputError(f"{text} is not a box inside the image; give [x, y, width, height] in pixels")
                logger.warning("%s has no area; boxes without area, which are left out: %d", text, found.sum())
        boxes, owners = boxes[has_area], owners[has_area]
        parts = np.split(boxes, np.searchsorted(owners, np.arange(1, len(records))))
        listed = set(places.tolist())
        return [part if place in listed else None for place, part in zip(range(len(records)), parts, strict=False)]


def read_coco(path: str | os.PathLike[str]) -> CocoFile:
    """Read a COCO-format file.

    Raises:
        InputError: the file is missing or not in COCO format, contains an id or a file name twice, or refers to an
            unknown id.
    """
    path = os.fspath(path)
    try:
        content = msgspec.json.decode(Path(path).read_bytes().removeprefix(codecs.BOM_UTF8), type=_Content)
    except (OSError, ValueError, RecursionError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).replace("`", "'")
        raise InputError(
            f"{path}: cannot be read as a COCO-format file ({reason}); see https://cocodataset.org/#format-data"
        ) from error
    # Text is sorted by length first, like numbers.
    ordered = sorted(content.categories, key=lambda item: (len(item.id) if isinstance(item.id, str) else -1, item.id))
    # Roboflow writes a root category, which has the name of the class if there is only one.
    names = list(dict.fromkeys(normalize_name(category.name) for category in ordered))
    images = {image.id: index for index, image in enumerate(content.images)}
    categories = {category.id: names.index(normalize_name(category.name)) for category in ordered}
    for field, values in (
        ("image id", [image.id for image in content.images]),
        ("file_name", [image.file_name for image in content.images]),
        ("category id", [category.id for category in ordered]),
    ):
        if len(set(values)) < len(values):
            raise InputError(f"{path}: {field} {Counter(values).most_common(1)[0][0]!r} is not unique; correct it")
    try:
        annotations = [(images[a.image_id], categories[a.category_id], a.bbox, a.iscrowd) for a in content.annotations]
    except KeyError as error:
        known = str(error.args[0]) in map(str, (*images, *categories))
        remedy = "write all ids as numbers, or all as text" if known else "correct it"
        raise InputError(f"{path}: an annotation has the unknown image_id or category_id {error}; {remedy}") from None
    return CocoFile(path, names, content.images, np.array(annotations, dtype=_ANNOTATION))


def coco_sources(root: Path) -> dict[str, DatasetSource]:
    """Return `coco_<year>_<split>_multilabel`, also with `_labeled`, `_no_crowd` or `_labeled_no_crowd` at the end."""
    sources = {}
    for year, split, labeled, no_crowd in product((2014, 2017), ("train", "val"), ("", "_labeled"), ("", "_no_crowd")):
        json_file = root / "coco" / "annotations" / f"instances_{split}{year}.json"
        images = root / "coco" / f"{split}{year}"
        load = partial(load_coco_multilabel, json_file, images, keep_negatives=not labeled, crowd_labels=not no_crowd)
        sources[f"coco_{year}_{split}_multilabel{labeled}{no_crowd}"] = DatasetSource((json_file, images), load)
    return sources


def load_coco_multilabel(
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    *,
    crowd_labels: bool = True,
    keep_negatives: bool = True,
) -> MultiLabelDataset:
    """Read a COCO-format file and its images as a multi-label dataset.

    Classes are the categories of the file, in the order of their ids. Sizes come from the file, as in Detectron2.

    Args:
        json_file: path of the COCO-format file.
        image_root: folder that the `file_name` of each image is relative to.
        crowd_labels: whether a crowd region (`iscrowd`) makes its category a label of the image. With crowds, 82,081
            images of COCO train2014 and 40,137 of val2014 have a label: the usual multi-label protocol.
        keep_negatives: whether images without a label are kept; they are negatives of all classes.

    Raises:
        InputError: the file is not in COCO format, a box is wrong, or an image is missing.
    """
    json_file = os.fspath(json_file)
    folder = ImageFolder(image_root)
    file = read_coco(json_file)
    counted = file.annotations if crowd_labels else file.annotations[~file.annotations["iscrowd"]]
    present = np.zeros((len(file.images), len(file.category_names)), dtype=bool)
    present[counted["image"], counted["category"]] = True
    places = np.full(len(file.images), -1)
    records = []
    for index, (image, labels) in enumerate(zip(file.images, label_lists(present), strict=True)):
        path = os.path.join(folder.root, folder.find_one(image.file_name, f"{json_file}: image {image.id}"))
        if labels or keep_negatives:
            places[index] = len(records)
            height, width = image.size(path)
            record = {"file_name": path, "height": height, "width": width, "image_id": image.id, "labels": labels}
            records.append(record)
    boxes = file.record_boxes(places, records, np.arange(len(file.category_names)))
    return MultiLabelDataset(PackedRecords(records, boxes), file.category_names, "COCO-format JSON")
