"""A dataset as large as COCO that needs no download: annotations, proposals, and links to a few drawn pictures."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mlickd.data import write_store
from mlickd.errors import InputError

__all__ = ["write_synthetic_coco"]

_HEIGHT, _WIDTH = 480, 640
_NUM_CLASSES = 80
_OBJECTS = 7.3  # of an image, on average, as in COCO train2014
_OUTLINES = 64  # different ones, of 22 points: they make the file as large as COCO's, and training never reads them
_PICTURES = 64  # different ones: no file system refuses some thousand links to a file
_MARK = "synthetic.json"


def write_synthetic_coco(root: Path, num_images: int, num_proposals: int, seed: int = 0) -> None:
    """Make ``coco_2014_train_multilabel``, and a ``coco_2014_val_multilabel`` of at most 100 images, below a root.

    The files lie where those of COCO do, proposals included, and the annotation file has the size of COCO's. Each image
    is a hard link to one of a few drawn pictures. A root that has just this already is left as it is; what an
    interrupted call has left is made anew.

    Args:
        root: what DETECTRON2_DATASETS is to be.
        num_images: of the training split.
        num_proposals: of each image.
        seed: of everything drawn.

    Raises:
        InputError: the root holds something else.
    """
    mark = root / _MARK
    content = {"num_images": num_images, "num_proposals": num_proposals, "seed": seed, "version": 1}
    if mark.exists():
        if mark.read_text(encoding="utf-8") == json.dumps(content):
            return
        mark.write_text("", encoding="utf-8")
        for folder in ("coco", "proposals"):
            shutil.rmtree(root / folder, ignore_errors=True)
    elif root.exists() and any(root.iterdir()):
        raise InputError(f"{root}: holds something else than benchmark data; give an empty or a new folder")
    else:
        root.mkdir(parents=True, exist_ok=True)
        mark.write_text("", encoding="utf-8")  # until all is there: what an interruption leaves is ours to remove
    for split, count in (("train2014", num_images), ("val2014", min(num_images, 100))):
        generator = np.random.default_rng((seed, count))
        ids = _image_ids(generator, count)
        _write_images(root / "coco" / split, split, ids, generator)
        _write_annotations(root / "coco" / "annotations" / f"instances_{split}.json", split, ids, generator)
        name = f"coco_2014_{split.removesuffix('2014')}_multilabel"
        items = tqdm(_proposals(ids, num_proposals, generator), desc=name, unit="image", total=count, mininterval=1.0)
        path = root / "proposals" / f"{name}_edge_boxes.proposals"
        write_store(path, items, "edge_boxes", parameters={}, image_digest="synthetic")
    mark.write_text(json.dumps(content), encoding="utf-8")


def _image_ids(generator: np.random.Generator, count: int) -> list[int]:
    """Ascending, with gaps, as in COCO."""
    return np.cumsum(generator.integers(1, 14, count)).tolist()


def _file_name(split: str, image_id: int) -> str:
    return f"COCO_{split}_{image_id:012d}.jpg"


def _write_images(folder: Path, split: str, ids: list[int], generator: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    originals = ids[:_PICTURES]
    for image_id in originals:
        coarse = generator.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / _file_name(split, image_id)), picture)
    for number, image_id in enumerate(ids[_PICTURES:]):
        os.link(folder / _file_name(split, originals[number % _PICTURES]), folder / _file_name(split, image_id))


def _write_annotations(path: Path, split: str, ids: list[int], generator: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [
        {"id": image_id, "file_name": _file_name(split, image_id), "height": _HEIGHT, "width": _WIDTH}
        for image_id in ids
    ]
    # COCO's category ids have gaps.
    categories = [{"id": index + 1 + index // 8, "name": f"class {index:02d}"} for index in range(_NUM_CLASSES)]
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{{"images": {json.dumps(images)}, "categories": {json.dumps(categories)}, "annotations": [')
        file.writelines(_annotations(ids, [category["id"] for category in categories], generator))
        file.write("]}")


def _annotations(ids: list[int], category_ids: list[int], generator: np.random.Generator) -> Iterator[str]:
    outlines = [json.dumps(generator.uniform(0, _HEIGHT, (1, 44)).round(2).tolist()) for _ in range(_OUTLINES)]
    counts = generator.poisson(_OBJECTS, len(ids))
    owners = np.repeat(ids, counts)
    boxes = _boxes(generator, len(owners))
    categories = generator.choice(category_ids, len(owners))
    for number, (owner, (x0, y0, x1, y1), category) in enumerate(zip(owners, boxes, categories, strict=True)):
        box = f"[{x0:.2f}, {y0:.2f}, {x1 - x0:.2f}, {y1 - y0:.2f}]"
        yield (
            f'{", " if number else ""}{{"segmentation": {outlines[number % _OUTLINES]}, '
            f'"area": {(x1 - x0) * (y1 - y0):.2f}, "iscrowd": 0, "image_id": {owner}, "bbox": {box}, '
            f'"category_id": {category}, "id": {number + 1}}}'
        )


def _proposals(
    ids: list[int], count: int, generator: np.random.Generator
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    for image_id in ids:
        yield image_id, _boxes(generator, count), np.sort(generator.random(count, dtype=np.float32))[::-1]


def _boxes(generator: np.random.Generator, count: int) -> np.ndarray:
    """(count, 4) float32 boxes (x0, y0, x1, y1) of at least 8 pixels inside the image."""
    size = np.array([_WIDTH, _HEIGHT], dtype=np.float32)
    low = generator.random((count, 2), dtype=np.float32) * (size - 8)
    high = low + 8 + generator.random((count, 2), dtype=np.float32) * (size - 8 - low)
    return np.hstack((low, np.minimum(high, size)))
