"""Proposals in `.mat` files: those that came with WSDDN and OICR, and those of MCG.

All of them have boxes (y0, x0, y1, x1) in MATLAB's pixels, which count from 1 and are both inside the box. Here a pixel
is the square between two integers and counts from 0, so that the lower corner is lowered by 1 and the upper one stays.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mlickd.errors import InputError

__all__ = ["read_mcg_folder", "read_voc_mat"]

Proposals = tuple[str, np.ndarray, np.ndarray | None]


def read_voc_mat(path: str | os.PathLike[str]) -> Iterator[Proposals]:
    """Read one file for a whole split: cells ``boxes``, ``images`` (names) and, where there are scores, ``boxScores``.

    That is `EdgeBoxesVOC2007trainval.mat` of WSDDN, and `voc_2007_trainval.mat` (Selective Search) of Fast R-CNN, OICR
    and PCL.

    Yields:
        Name of the image, boxes (R, 4) as (x0, y0, x1, y1), and scores (R,) or None.

    Raises:
        InputError: the file is missing or is no such file, or a package to read it with is.
    """
    content = _load(Path(path), ("boxes", "images", "boxScores"))
    for field in ("boxes", "images"):
        if not isinstance(content.get(field), list):
            raise InputError(f"{path}: has no cell array {field!r}; give a file of WSDDN or OICR")
    boxes, names, scores = content["boxes"], content["images"], content.get("boxScores")
    if len(boxes) != len(names) or scores is not None and len(scores) != len(names):
        raise InputError(f"{path}: boxes, images and boxScores have different lengths; download it again")
    for index, name in enumerate(names):
        of_image = (
            None if scores is None else _numbers(scores[index], f"{path}: boxScores of {_text(name)}").reshape(-1)
        )
        yield _text(name), _corners(boxes[index], f"{path}: image {_text(name)}"), of_image


def read_mcg_folder(path: str | os.PathLike[str]) -> Iterator[Proposals]:
    """Read one file an image, in a folder or below it: ``boxes``, and ``scores`` where there are any.

    The name of a file is that of its image: `COCO_val2014_000000000042.mat`. MCG's scores were learned from boxes.

    Yields:
        As `read_voc_mat`.

    Raises:
        InputError: as `read_voc_mat`, or there is no such file in the folder.
    """
    files = sorted(Path(path).rglob("*.mat"))
    if not files:
        raise InputError(f"{path}: no .mat file in this folder; name the one that MCG's files were unpacked to")
    for file in files:
        content = _load(file, ("boxes", "scores"))
        if not isinstance(content.get("boxes"), np.ndarray):
            raise InputError(f"{file}: has no array 'boxes'; give a folder with MCG's boxes alone")
        scores = None if content.get("scores") is None else _numbers(content["scores"], f"{file}: scores").reshape(-1)
        yield file.stem, _corners(content["boxes"], str(file)), scores


def _load(path: Path, fields: tuple[str, ...]) -> dict[str, Any]:
    """The fields that are in the file: cell arrays as lists, others as arrays."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the path of a .mat file")
    from scipy.io import loadmat  # here, for it takes long

    try:
        content = loadmat(path, variable_names=fields)
    except NotImplementedError:  # SciPy's answer to version 7.3, which is HDF5
        return _load_hdf5(path, fields)
    except Exception as error:  # damaged files fail in many ways
        problem = " ".join(str(error).split())
        raise InputError(f"{path}: not a readable .mat file ({problem}); download or save it again") from error
    found = {field: content[field] for field in fields if field in content}
    return {field: list(value.ravel()) if value.dtype == object else value for field, value in found.items()}


def _load_hdf5(path: Path, fields: tuple[str, ...]) -> dict[str, Any]:
    try:
        import h5py
    except ImportError as error:
        raise InputError(
            f"{path}: is a .mat file of version 7.3 (HDF5), for which h5py is needed: pip install 'mlickd[matlab]', or "
            "save it in MATLAB with -v7"
        ) from error
    found: dict[str, Any] = {}
    try:
        with h5py.File(path, "r") as file:

            def read(node: h5py.Dataset) -> Any:
                if node.dtype == h5py.ref_dtype:
                    return [read(file[reference]) for reference in node[()].ravel()]
                if node.attrs.get("MATLAB_class") == b"char":
                    return "".join(map(chr, node[()].ravel()))
                # MATLAB writes the shape of an empty array instead of its content.
                return np.zeros((0, 4)) if "MATLAB_empty" in node.attrs else node[()].T

            for field in fields:
                if field in file:
                    found[field] = read(file[field])
    except (OSError, KeyError, ValueError, AttributeError) as error:
        problem = " ".join(str(error).split())
        raise InputError(f"{path}: not a readable .mat file ({problem}); download or save it again") from error
    return found


def _corners(boxes: Any, where: str) -> np.ndarray:
    """(y0, x0, y1, x1) from 1, inclusive, to (x0, y0, x1, y1) from 0."""
    boxes = _numbers(boxes, where)
    if boxes.size == 0:
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"{where}: boxes of shape {boxes.shape}; save them with 4 columns (y0, x0, y1, x1)")
    return boxes[:, (1, 0, 3, 2)] - (1, 1, 0, 0)


def _numbers(value: Any, where: str) -> np.ndarray:
    try:
        return np.asarray(value).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: not an array of numbers; download or save the file again") from error


def _text(cell: Any) -> str:
    """The text of a cell, which MATLAB's strings come wrapped in."""
    while isinstance(cell, np.ndarray | list) and len(cell) == 1:
        cell = cell[0]
    return str(cell)
