"""The `scenes` dataset on disk: drawn from a seed on first use, as an ordinary folder dataset."""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from filelock import FileLock
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mlickd.errors import InputError

from .composition import CATEGORY_NAMES, draw_scene

logger = logging.getLogger(__name__)

DIRECTORY = "scenes"
COUNTS = {"train": 1000, "test": 400}
SIDE = 256
SEED = 0
_VERSION = 1  # of the pictures: raise it when the drawing code changes, so that older folders are drawn anew
_JPEG_QUALITY = 90


def ensure_scenes(root: str | os.PathLike[str]) -> Path:
    """Give the folder of the `scenes` dataset under `root`, drawing it if it is missing, old or half-made.

    It appears under its name only when it is complete. Two processes may call this at the same time.

    Raises:
        InputError: the folder cannot be written, or holds images that are not drawn scenes.
    """
    root = Path(root)
    directory = root / DIRECTORY
    if _is_complete(directory):
        return directory
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{DIRECTORY}.lock"):
            if not _is_complete(directory):
                _refuse_foreign(directory)
                logger.info("Drawing the scenes dataset in %s (once; takes some seconds).", directory)
                partial = root / f".{DIRECTORY}.partial"
                shutil.rmtree(partial, ignore_errors=True)
                write_scenes(partial, COUNTS, SIDE, SEED)
                if directory.exists():
                    shutil.rmtree(directory)
                partial.rename(directory)
    except OSError as error:
        raise InputError(
            f"{directory}: cannot write the scenes dataset ({error.strerror or error}); "
            "set DETECTRON2_DATASETS to a directory that can be written"
        ) from error
    return directory


def write_scenes(
    directory: str | os.PathLike[str],
    counts: Mapping[str, int] = COUNTS,
    side: int = SIDE,
    seed: int = SEED,
    num_workers: int | None = None,
) -> None:
    """Draw scenes into a new folder dataset.

    Every picture is a function of (seed, split, index) alone, so the files are the same bytes whatever the
    number of workers, and a longer split begins with the pictures of a shorter one.

    Args:
        directory: created; must not hold a dataset yet.
        counts: number of pictures of each split.
        side: height and width of the pictures, 64 to 384 pixels.
        seed: another seed gives other pictures.
        num_workers: processes to draw with; 0 draws in this one; None takes one for each core, at most 8.
    """
    directory = Path(directory)
    (directory / "images").mkdir(parents=True)
    (directory / "classes.txt").write_text("".join(f"{name}\n" for name in CATEGORY_NAMES), encoding="utf-8")
    if num_workers is None:
        num_workers = min(8, os.cpu_count() or 1)
    for split, count in counts.items():
        drawings = DataLoader(
            _Drawings(directory / "images", split, count, side, seed),
            batch_size=None,
            num_workers=num_workers,
            worker_init_fn=_use_one_thread,
            generator=torch.Generator(),  # leaves the global one alone
        )
        drawn = list(tqdm(drawings, desc=f"scenes_{split}", unit="image", mininterval=1.0))
        _write_labels(directory / f"labels_{split}.csv", drawn)
        _write_boxes(directory / f"instances_{split}.json", drawn, side)
    # Last, because its presence says that the rest is there.
    (directory / "scenes.json").write_text(json.dumps(_description(counts, side, seed), indent=2) + "\n")


class _Drawings(Dataset):
    """Item i draws picture i, writes it, and gives its file name, categories, boxes and areas."""

    def __init__(self, directory: Path, split: str, count: int, side: int, seed: int):
        self.directory, self.split, self.count, self.side, self.seed = directory, split, count, side, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[str, list[int], list[list[int]], list[int]]:
        rng = np.random.default_rng([self.seed, zlib.crc32(self.split.encode()), index])
        scene = draw_scene(rng, self.side)
        name = f"{self.split}_{index:05d}.jpg"
        encoded = cv2.imencode(".jpg", scene.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
        (self.directory / name).write_bytes(encoded.tobytes())
        return name, scene.categories.tolist(), scene.boxes.tolist(), scene.masks.sum(axis=(1, 2)).tolist()


def _use_one_thread(worker_id: int) -> None:
    cv2.setNumThreads(0)


def _write_labels(path: Path, drawn: list[tuple]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file_name", "labels"])
        for name, categories, _, _ in drawn:
            writer.writerow([name, ";".join(CATEGORY_NAMES[index] for index in sorted(set(categories)))])


def _write_boxes(path: Path, drawn: list[tuple], side: int) -> None:
    images, annotations = [], []
    for image_id, (name, categories, boxes, areas) in enumerate(drawn, start=1):
        images.append({"id": image_id, "file_name": name, "width": side, "height": side})
        for category, (x0, y0, x1, y1), area in zip(categories, boxes, areas, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": area,
                    "iscrowd": 0,
                }
            )
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(CATEGORY_NAMES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content), encoding="utf-8")


def _description(counts: Mapping[str, int], side: int, seed: int) -> dict:
    return {"version": _VERSION, "seed": seed, "side": side, "images": dict(counts)}


def _is_complete(directory: Path) -> bool:
    try:
        description = json.loads((directory / "scenes.json").read_text())
        names = {entry.name for entry in os.scandir(directory / "images") if entry.stat().st_size > 0}
    except (OSError, ValueError):
        return False
    expected = {f"{split}_{index:05d}.jpg" for split, count in COUNTS.items() for index in range(count)}
    files = [
        "classes.txt",
        *(f"{kind}" for split in COUNTS for kind in (f"labels_{split}.csv", f"instances_{split}.json")),
    ]
    return (
        description == _description(COUNTS, SIDE, SEED)
        and expected <= names
        and all((directory / name).is_file() for name in files)
    )


def _refuse_foreign(directory: Path) -> None:
    """Never replace a folder that someone else filled."""
    pattern = re.compile(r"(train|test)_\d{5}\.jpg")
    foreign = [path for path in directory.glob("images/*") if not pattern.fullmatch(path.name)]
    if foreign:
        raise InputError(
            f"{directory}: holds {foreign[0].name}, which is not a drawn scene; rename this folder, "
            f"because the dataset {DIRECTORY!r} is drawn there"
        )
