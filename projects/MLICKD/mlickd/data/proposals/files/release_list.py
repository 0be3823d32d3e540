"""The text list of the authors' release: a line for each image, with its labels and its proposals."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from mlickd.errors import InputError

__all__ = ["RELEASE_SIDE", "read_release_list"]

# The release warps its images to this square, and its boxes are in the pixels of it.
RELEASE_SIDE = 672


def read_release_list(path: str | os.PathLike[str], num_classes: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Read lines ``<image path> <C labels, 0 or 1> <x0 y0 x1 y1 score> <x0 y0 x1 y1 score> ...``.

    Fields are apart by blanks, so a path must have none. Coordinates count from 0. Where an image has fewer proposals
    than the others, lines may be filled up with zeros: these are boxes without area, which the import leaves out.

    Args:
        path: of the list, UTF-8.
        num_classes: C.

    Yields:
        Image path, boxes (R, 4) as they are, and scores (R,).

    Raises:
        InputError: the file cannot be read, or a line is not like this; names the line.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                fields = line.split()
                if fields:
                    yield _parse(fields, num_classes, f"{path}: line {number}")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give the path of the list") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); give the path of the list"
        ) from error


def _parse(fields: list[str], num_classes: int, where: str) -> tuple[str, np.ndarray, np.ndarray]:
    name, labels, numbers = fields[0], fields[1 : 1 + num_classes], fields[1 + num_classes :]
    if len(labels) < num_classes or not set(labels) <= {"0", "1"} or len(numbers) % 5:
        raise InputError(
            f"{where}: not a path without blanks, {num_classes} labels of 0 or 1, and 5 numbers for each "
            "proposal; give the --dataset whose classes the list has"
        )
    try:
        rows = np.array(numbers, dtype=np.float64).reshape(-1, 5)
    except ValueError as error:
        raise InputError(f"{where}: {error}; give each proposal as x0 y0 x1 y1 score") from error
    return name, rows[:, :4], rows[:, 4]
