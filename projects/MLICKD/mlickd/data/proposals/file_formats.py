"""Readers of proposals in the file formats of other projects.

For each image, readers yield the name, boxes (R, 4) as (x0, y0, x1, y1), and scores (R,) or None. They raise InputError
if a file is missing, corrupt or of another format.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.structures import BoxMode
from scipy.io import loadmat
from scipy.special import expit

from mlickd.errors import InputError
from mlickd.safe_pickle import load_plain_pickle

# The authors' release has boxes in pixels of images that are warped to a square of this side.
RELEASE_SIDE = 672

Proposals = tuple[str, np.ndarray, np.ndarray | None]


def read_detectron2_pickle(path: str | os.PathLike[str]) -> Iterator[Proposals]:
    """Read a dict of ids, boxes, objectness logits and bbox_mode. The scores are the sigmoid of the logits.

    Files of Detectron (1) may have ``indexes`` for ids, and ``scores``, which are probabilities already.
    """
    content = load_plain_pickle(path)
    with _parsing(path, "dict of ids, boxes (R, 4), objectness_logits (R,) and bbox_mode (XYXY_ABS or XYWH_ABS)"):
        has_logits = "scores" not in content
        keys = ("indexes" if "indexes" in content else "ids", "boxes", "objectness_logits" if has_logits else "scores")
        mode = BoxMode(content.get("bbox_mode", BoxMode.XYXY_ABS))
        for image_id, boxes, scores in zip(*(content[key] for key in keys), strict=True):
            boxes = BoxMode.convert(np.array(boxes, dtype=np.float64).reshape(len(boxes), 4), mode, BoxMode.XYXY_ABS)
            scores = np.array(scores, dtype=np.float64).reshape(len(boxes))
            order = np.argsort(-scores, kind="stable")  # the sigmoid of large logits is 1 in float32
            yield str(image_id), boxes[order], expit(scores[order]) if has_logits else scores[order]


def read_release_list(path: str | os.PathLike[str], num_classes: int) -> Iterator[Proposals]:
    """Read lines ``<image path> <C labels, 0 or 1> <x0 y0 x1 y1 score> <x0 y0 x1 y1 score> ...``.

    Spaces separate the fields, so a path must not contain spaces. Coordinates start at 0. The release pads short
    lines with zeros; the import drops these boxes, because they have no area.

    Args:
        path: the list, UTF-8.
        num_classes: number C of classes of the dataset.
    """
    number = 0
    try:
        with open(path, encoding="utf-8-sig") as file:
            for line in file:
                number += 1
                fields = line.split()
                if fields:
                    if not set(fields[1 : 1 + num_classes]) <= {"0", "1"}:
                        raise ValueError("a label is not 0 or 1")
                    rows = np.array(fields[1 + num_classes :], dtype=np.float64).reshape(-1, 5)
                    yield fields[0], rows[:, :4], rows[:, 4]
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: line {number}: is not a path without spaces, {num_classes} labels of 0 or 1, and 5 numbers for "
            f"each proposal ({error}); give such a list, and the --dataset with its classes"
        ) from error


def read_voc_mat(path: str | os.PathLike[str]) -> Iterator[Proposals]:
    """Read the file of a split, with cell arrays ``boxes``, ``images`` (names) and optionally ``boxScores``.

    Examples are `EdgeBoxesVOC2007trainval.mat` of WSDDN, and `voc_2007_trainval.mat` (Selective Search) of Fast R-CNN,
    OICR and PCL.
    """
    with _parsing(path, ".mat file with cell arrays boxes (of arrays with 4 columns), images and optionally boxScores"):
        content = _load(path, ("boxes", "images", "boxScores"))
        images = [_text(cell) for cell in content["images"]]
        scores = content.get("boxScores", [None] * len(images))
        for image, image_boxes, image_scores in zip(images, content["boxes"], scores, strict=True):
            yield image, *_boxes_and_scores(image_boxes, image_scores)


def read_mcg_folder(path: str | os.PathLike[str]) -> Iterator[Proposals]:
    """Read one file per image from a folder and its sub-folders, with ``boxes`` and optionally ``scores``.

    Each file is named like its image, such as `COCO_val2014_000000000042.mat`. MCG's scores were learned from boxes.
    """
    files = sorted(Path(path).rglob("*.mat"))
    if not files:
        raise InputError(f"{path}: has no .mat file; give the folder with the unpacked files of MCG")
    for file in files:
        with _parsing(file, ".mat file with an array boxes (4 columns) and optionally scores"):
            content = _load(file, ("boxes", "scores"))
            yield file.stem, *_boxes_and_scores(content["boxes"], content.get("scores"))


@contextmanager
def _parsing(path: str | os.PathLike[str], expected: str) -> Iterator[None]:
    """Convert every error of a corrupt file to an InputError."""
    try:
        yield
    except NotImplementedError as error:  # from SciPy
        raise InputError(f"{path}: is a .mat file of version 7.3; save it in MATLAB with -v7") from error
    except Exception as error:
        problem = " ".join(str(error).split())
        raise InputError(
            f"{path}: is not a {expected} ({type(error).__name__}: {problem}); download or save it again"
        ) from error


def _load(path: str | os.PathLike[str], fields: tuple[str, ...]) -> dict[str, Any]:
    """Return those of the given fields that the file has. Cell arrays become lists."""
    content = loadmat(path, variable_names=fields, appendmat=False)
    found = {field: content[field] for field in fields if field in content}
    return {field: list(value.ravel()) if value.dtype == object else value for field, value in found.items()}


def _boxes_and_scores(boxes: Any, scores: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Convert boxes from MATLAB: (y0, x0, y1, x1), where pixels count from 1 and the box includes pixel (y1, x1).

    In this project, coordinates count from 0, and a box ends where its last pixel ends. Only x0 and y0 decrease by 1.
    """
    boxes = np.asarray(boxes).astype(np.float64)
    boxes = boxes.reshape(len(boxes) if boxes.size else 0, 4)[:, (1, 0, 3, 2)] - (1, 1, 0, 0)
    return boxes, None if scores is None else np.asarray(scores).astype(np.float64).reshape(len(boxes))


def _text(cell: Any) -> str:
    """Return the text of a MATLAB cell, which may be wrapped in arrays."""
    while isinstance(cell, np.ndarray | list) and len(cell) == 1:
        cell = cell[0]
    return str(cell)
