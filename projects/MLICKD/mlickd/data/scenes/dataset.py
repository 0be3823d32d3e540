"""The `scenes` dataset on disk: a folder dataset that is drawn from a seed on first use."""

import json
import logging
import os
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from filelock import FileLock

from mlickd.errors import InputError
from mlickd.progress import progress

from .composition import CATEGORY_NAMES, draw_scene

logger = logging.getLogger(__name__)

FOLDER = "scenes"
COUNTS = {"train": 1000, "test": 400}
SIDE = 256
SEED = 0
_JPEG_QUALITY = 90


def ensure_scenes(root: str | os.PathLike[str]) -> Path:
    """Return the folder of the `scenes` dataset in a root folder. If it is missing, draw it first.

    The folder gets its name only when it is complete. Several processes may call this function at the same time.

    Raises:
        InputError: the folder cannot be written, or contains another dataset.
    """
    root = Path(root)
    folder, unfinished = root / FOLDER, root / f".{FOLDER}.partial"
    description = folder / "scenes.json"
    try:
        if not description.exists():
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / f".{FOLDER}.lock"):
                if not description.exists():
                    if folder.exists():
                        raise InputError(f"{folder}: is not a folder of drawn scenes; rename or remove it")
                    logger.info("Drawing the scenes dataset in %s (once; takes a few seconds).", folder)
                    shutil.rmtree(unfinished, ignore_errors=True)
                    write_scenes(unfinished, COUNTS, SIDE, SEED)
                    unfinished.rename(folder)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror or error}); set DETECTRON2_DATASETS to another folder"
        ) from error
    return folder


def write_scenes(
    folder: str | os.PathLike[str], counts: Mapping[str, int] = COUNTS, side: int = SIDE, seed: int = SEED
) -> None:
    """Draw scenes into a new folder dataset.

    Each image depends only on the seed, its split and its index, so larger counts do not change the first images.

    Args:
        folder: folder to create.
        counts: number of images of each split.
        side: height and width of the images, 64 to 384 pixels.
        seed: random seed of the dataset.
    """
    folder = Path(folder)
    (folder / "images").mkdir(parents=True)
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in CATEGORY_NAMES), encoding="utf-8")
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(CATEGORY_NAMES)]
    for split, count in counts.items():
        rows, images, annotations = ["file_name,labels\n"], [], []
        for index in progress(range(count), split, "image"):
            scene = draw_scene(np.random.default_rng([seed, zlib.crc32(split.encode()), index]), side)
            name = f"{split}_{index:05d}.jpg"
            encoded = cv2.imencode(".jpg", scene.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
            (folder / "images" / name).write_bytes(encoded.tobytes())
            labels, boxes = scene.categories.tolist(), scene.boxes.tolist()
            rows.append(f"{name},{';'.join(CATEGORY_NAMES[label] for label in sorted(set(labels)))}\n")
            images.append({"id": index + 1, "file_name": name, "width": side, "height": side})
            areas = scene.masks.sum(axis=(1, 2)).tolist()
            for label, (x0, y0, x1, y1), area in zip(labels, boxes, areas, strict=True):
                box = {"id": len(annotations) + 1, "image_id": index + 1, "category_id": label + 1}
                annotations.append({**box, "bbox": [x0, y0, x1 - x0, y1 - y0], "area": area, "iscrowd": 0})
        (folder / f"labels_{split}.csv").write_text("".join(rows), encoding="utf-8")
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"instances_{split}.json").write_text(json.dumps(content), encoding="utf-8")
    description = {"seed": seed, "side": side, "images": dict(counts)}
    (folder / "scenes.json").write_text(json.dumps(description, indent=2) + "\n")
