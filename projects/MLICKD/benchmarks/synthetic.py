"""A dataset of COCO's size without a download: annotations, proposals, and links to a few random images."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from mlickd.data import write_store
from mlickd.errors import InputError

_HEIGHT, _WIDTH = 480, 640
_OBJECTS = 7.3  # mean number per image in COCO train2014
_DISTINCT = 64  # number of different images and outlines; further images are links, further outlines are copies


def write_synthetic_coco(root: Path, num_images: int, num_proposals: int) -> None:
    """Write ``coco_2014_train_multilabel``, and ``coco_2014_val_multilabel`` with at most 100 images, into a folder.

    Paths and the size of the annotation file are the same as in COCO. Existing data of the same size is kept. Data of
    another size or of an interrupted call is replaced.

    Args:
        root: folder to use as DETECTRON2_DATASETS.
        num_images: number of images of the training split.
        num_proposals: number of proposals of each image.

    Raises:
        InputError: the folder contains other files.
    """
    mark, content = root / "synthetic.json", json.dumps({"num_images": num_images, "num_proposals": num_proposals})
    if mark.exists() and mark.read_text(encoding="utf-8") == content:
        return
    if not mark.exists() and root.exists() and any(root.iterdir()):
        raise InputError(f"{root}: contains files other than benchmark data; give a new folder")
    root.mkdir(parents=True, exist_ok=True)
    mark.write_text("", encoding="utf-8")
    for folder in ("coco", "proposals"):
        shutil.rmtree(root / folder, ignore_errors=True)
    for split, count in (("train", num_images), ("val", min(num_images, 100))):
        generator = np.random.default_rng(count)
        ids = np.cumsum(generator.integers(1, 14, count)).tolist()  # with gaps, as in COCO
        names = [f"COCO_{split}2014_{image_id:012d}.jpg" for image_id in ids]
        _write_images(root / "coco" / f"{split}2014", names, generator)
        _write_annotations(root / "coco" / "annotations" / f"instances_{split}2014.json", names, ids, generator)
        scores = np.linspace(1, 0, num_proposals, dtype=np.float32)
        items = ((image_id, _boxes(generator, num_proposals), scores) for image_id in ids)
        path = root / "proposals" / f"coco_2014_{split}_multilabel_edge_boxes"
        write_store(path, items, "edge_boxes", parameters={}, image_digest="synthetic", num_images=count)
    mark.write_text(content, encoding="utf-8")


def _write_images(folder: Path, names: list[str], generator: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    for name in names[:_DISTINCT]:
        coarse = generator.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / name), image)
    for number, name in enumerate(names[_DISTINCT:]):
        os.link(folder / names[number % _DISTINCT], folder / name)


def _write_annotations(path: Path, names: list[str], ids: list[int], generator: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = {"height": _HEIGHT, "width": _WIDTH}
    images = [{"id": image_id, "file_name": name, **sizes} for name, image_id in zip(names, ids, strict=True)]
    # COCO's category ids have gaps.
    categories = [{"id": index + 1 + index // 8, "name": f"class {index:02d}"} for index in range(80)]
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{{"images": {json.dumps(images)}, "categories": {json.dumps(categories)}, "annotations": [')
        file.writelines(_annotations(ids, [category["id"] for category in categories], generator))
        file.write("]}")


def _annotations(ids: list[int], category_ids: list[int], generator: np.random.Generator) -> Iterator[str]:
    outlines = [generator.uniform(0, _HEIGHT, (1, 44)).round(2).tolist() for _ in range(_DISTINCT)]
    owners = np.repeat(ids, generator.poisson(_OBJECTS, len(ids))).tolist()
    corners = _boxes(generator, len(owners)).astype(float).round(2)
    boxes = np.hstack((corners[:, :2], corners[:, 2:] - corners[:, :2])).round(2).tolist()
    categories = generator.choice(category_ids, len(owners)).tolist()
    for number, (owner, box, category) in enumerate(zip(owners, boxes, categories, strict=True)):
        annotation = {"segmentation": outlines[number % _DISTINCT], "area": box[2] * box[3], "iscrowd": 0}
        annotation |= {"image_id": owner, "bbox": box, "category_id": category, "id": number + 1}
        yield f"{', ' if number else ''}{json.dumps(annotation)}"


def _boxes(generator: np.random.Generator, count: int) -> np.ndarray:
    """Return (count, 4) float32 boxes (x0, y0, x1, y1) of at least 8 pixels inside the image."""
    size = np.array([_WIDTH, _HEIGHT], dtype=np.float32)
    low = generator.random((count, 2), dtype=np.float32) * (size - 8)
    high = low + 8 + generator.random((count, 2), dtype=np.float32) * (size - 8 - low)
    return np.hstack((low, np.minimum(high, size)))
