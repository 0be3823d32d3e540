"""The scores that an evaluation leaves in ``image_scores.npz``, from which every number can be computed again."""

from __future__ import annotations

import io
import math
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from detectron2.utils.file_io import PathManager

from mlickd.data.manifest import make_manifest
from mlickd.data.records import label_lists
from mlickd.errors import InputError
from mlickd.files import write_whole_file

from .metrics import checked_scores

__all__ = ["SCORES_FILE", "ImageScores", "find_scores", "read_scores", "write_scores"]

SCORES_FILE = "image_scores.npz"

# The arrays of a file may have this many bytes, or so many times those of the file, whichever is more. Scores hardly
# shrink by packing, so that real files stay far below.
_ALWAYS_ALLOWED, _MOST_PACKED = 2**28, 50


@dataclass(frozen=True)
class ImageScores:
    """
    Attributes:
        path: of the file.
        image_ids: N different ids.
        scores: (N, C) float32 probabilities.
        targets: (N, C) int8: 1 positive, 0 negative, -1 ignore.
        class_names: C names; None in a file that was written before they were kept.
    """

    path: str
    image_ids: list[str]
    scores: np.ndarray
    targets: np.ndarray
    class_names: list[str] | None

    def data_digest(self) -> str | None:
        """SHA-256 of image ids, labels and class names, that of :mod:`mlickd.data.manifest`; None without names."""
        if self.class_names is None:
            return None
        labels, ignored = (label_lists(self.targets == value) for value in (1, -1))
        records = [
            {"image_id": image_id, "labels": of_image, "ignored_labels": of_image_ignored}
            for image_id, of_image, of_image_ignored in zip(self.image_ids, labels, ignored, strict=True)
        ]
        return make_manifest("", records, self.class_names).digest()

    def as_images_of(self, other: ImageScores) -> ImageScores | None:
        """The same in the order of the other's images; None where images, labels or known class names differ."""
        if None not in (self.class_names, other.class_names) and self.class_names != other.class_names:
            return None
        places = {image_id: place for place, image_id in enumerate(self.image_ids)}
        if places.keys() != set(other.image_ids):
            return None
        order = [places[image_id] for image_id in other.image_ids]
        if not np.array_equal(self.targets[order], other.targets):
            return None
        return replace(self, image_ids=other.image_ids, scores=self.scores[order], targets=other.targets)


def write_scores(
    path: str, image_ids: Sequence[str], scores: np.ndarray, targets: np.ndarray, class_names: Sequence[str]
) -> None:
    """Write what :class:`ImageScores` holds: ``image_ids``, ``scores``, ``targets`` and ``class_names``, no pickles.

    Raises:
        InputError: it cannot be written.
    """
    texts = {"image_ids": np.array(image_ids, dtype=np.str_), "class_names": np.array(class_names, dtype=np.str_)}
    # NumPy goes back in what it writes.
    archive = io.BytesIO()
    np.savez_compressed(archive, scores=scores, targets=targets, **texts)
    write_whole_file(path, archive.getvalue(), "make room, then evaluate again", parents=True)


_REMEDY = "; evaluate the run again"


def read_scores(path: str) -> ImageScores:
    """Read ``image_scores.npz``.

    Raises:
        InputError: the file is missing or is none; the shapes differ; an image is there twice; a score is no
            probability, or a target none of 1, 0, -1.
    """
    if not PathManager.isfile(path):
        raise InputError(f"{path}: no such file; evaluate the run first, or name its {SCORES_FILE}")
    try:
        with PathManager.open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError(f"is no {SCORES_FILE}; evaluate the run again")
        with PathManager.open(path, "rb") as file, np.load(file, allow_pickle=False) as saved:
            _check_sizes(saved.zip)
            arrays = {name: saved[name] for name in saved.files}
        image_ids = [str(image_id) for image_id in arrays["image_ids"]]
        scores, targets = checked_scores(arrays["scores"], arrays["targets"])
        names = [str(name) for name in arrays["class_names"]] if "class_names" in arrays else None
    except KeyError as error:
        raise InputError(f"{path}: has no array {error}; evaluate the run again") from None
    except (OSError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as {SCORES_FILE} ({error}); evaluate the run again") from error
    except ValueError as error:
        message = str(error).removesuffix(_REMEDY)
        raise InputError(f"{path}: {message}{_REMEDY}") from None
    if len(image_ids) != len(scores) or (names is not None and len(names) != scores.shape[1]):
        raise InputError(
            f"{path}: {len(image_ids)} image ids and {'no' if names is None else len(names)} class names for scores of "
            f"shape {scores.shape}; evaluate the run again"
        )
    image_id, count = Counter(image_ids).most_common(1)[0]
    if count > 1:
        raise InputError(f"{path}: image {image_id!r} is there {count} times; keep one row of each image")
    return ImageScores(path, image_ids, scores, targets, names)


def _check_sizes(archive: zipfile.ZipFile) -> None:
    """Refuse what would fill the memory: to read an array makes room for as much as its header says.

    Raises:
        ValueError: an array has not the bytes of its header, or all of them have more than a file of scores may have.
    """
    total = packed = 0
    for entry in archive.infolist():
        with archive.open(entry) as file:
            version = np.lib.format.read_magic(file)
            read_header = getattr(np.lib.format, f"read_array_header_{version[0]}_{version[1]}", None)
            if read_header is None:
                raise ValueError(f"{entry.filename} has an unknown version; evaluate the run again")
            shape, _, dtype = read_header(file)
            length = file.tell() + math.prod(shape) * dtype.itemsize
        if dtype.hasobject:
            continue  # refused by who reads it
        if length != entry.file_size:
            raise ValueError(f"{entry.filename} has not the {length} bytes of its header; evaluate the run again")
        total += length
        packed += entry.compress_size
    if total > max(_ALWAYS_ALLOWED, _MOST_PACKED * packed):
        raise ValueError(f"its {packed} bytes hold arrays of {total}, which no scores do; evaluate the run again")


def find_scores(path: str, dataset: str | None = None) -> str:
    """The file of scores that a path stands for.

    Args:
        path: such a file, or the folder of a run (its ``OUTPUT_DIR``), which has one for each dataset of
            ``DATASETS.TEST``.
        dataset: of which dataset, where the folder has several.

    Raises:
        InputError: there is none, or several and ``dataset`` does not say which.
    """
    if PathManager.isfile(path):
        return path
    folder = os.path.join(path, "inference")
    found = PathManager.ls(folder) if PathManager.isdir(folder) else []
    names = sorted(name for name in found if PathManager.isfile(os.path.join(folder, name, SCORES_FILE)))
    if not names:
        raise InputError(
            f"{path}: neither a file of scores nor the folder of a run with inference/*/{SCORES_FILE}; evaluate the "
            "run first (tools/train_net.py --eval-only leaves its scores in OUTPUT_DIR/evaluation)"
        )
    if dataset is None and len(names) > 1:
        raise InputError(f"{path}: has scores of {', '.join(names)}; choose one with --dataset")
    if dataset is not None and dataset not in names:
        raise InputError(f"{path}: has no scores of --dataset {dataset}; choose one of {', '.join(names)}")
    return os.path.join(folder, dataset or names[0], SCORES_FILE)
