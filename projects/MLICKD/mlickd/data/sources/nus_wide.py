"""NUS-WIDE, 81 concepts, from the official lists and labels.

nus_wide/
  ConceptsList/Concepts81.txt                                       concepts, one a line
  ImageList/{Train,Test}Imagelist.txt                               images, one a line: actor\\0001_2124494179.jpg
  Groundtruth/TrainTestLabels/Labels_<concept>_{Train,Test}.txt     0 or 1 a line, in the order of the list
  Flickr/actor/0001_2124494179.jpg
  lists/<name>.txt                                                  optional: another split, images one a line

Images vanish from Flickr, and copies of the dataset differ in which they have. Those that are not there are left out,
with one warning that counts them.

No official file gives the size of an image. The records have none: it would take opening every image to know it, and
whoever decodes an image (the mapper, the proposal methods) knows it then.
"""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path

import numpy as np

from mlickd.errors import InputError

from ..packed_records import PackedRecords
from ..records import MultiLabelDataset, label_lists
from ..text_files import read_lines
from .image_folder import ImageFolder, relative_name
from .source import DatasetSource

logger = logging.getLogger(__name__)

_PARTS = ("Train", "Test")
_REMEDY = "download it again, and put it where datasets/README.md says"
_LABELS = "Groundtruth/TrainTestLabels"


def nus_wide_sources(root: Path) -> dict[str, DatasetSource]:
    """`nus_wide_<train, test or a list>_multilabel`; with `_labeled` behind it, the images with a concept alone."""
    directory = root / "nus_wide"
    lists = {part.lower(): directory / "ImageList" / f"{part}Imagelist.txt" for part in _PARTS}
    for path in directory.glob("lists/*.txt"):
        lists.setdefault(path.stem, path)
    sources = {}
    for split, path in lists.items():
        files = (path, directory / _LABELS, directory / "Flickr")
        for end, keep_unlabeled in (("", True), ("_labeled", False)):
            load = partial(load_nus_wide, directory, split, keep_unlabeled=keep_unlabeled)
            sources[f"nus_wide_{split}_multilabel{end}"] = DatasetSource(files, load)
    return sources


def nus_wide_list(name: str, root: Path) -> Path | None:
    """The list that would make `name` a split of NUS-WIDE; None where NUS-WIDE is not there or names it otherwise."""
    directory = root / "nus_wide"
    split = name.removesuffix("_labeled").removeprefix("nus_wide_").removesuffix("_multilabel")
    fits = name in (f"nus_wide_{split}_multilabel", f"nus_wide_{split}_multilabel_labeled")
    return directory / "lists" / f"{split}.txt" if fits and directory.is_dir() else None


def load_nus_wide(directory: str | os.PathLike[str], split: str, *, keep_unlabeled: bool = True) -> MultiLabelDataset:
    """Read one split of NUS-WIDE. The image id is the file name as listed, with "/".

    Args:
        directory: as above.
        split: `train` or `test` for the official lists, else the name of a file in `lists/`.
        keep_unlabeled: whether images without any of the concepts are kept, as negatives of all of them.

    Returns:
        Records without `height` and `width`, of the images that are there.

    Raises:
        InputError: a file is missing or damaged, an image is listed twice or has no labels, or no image is there.
    """
    directory = Path(directory)
    concepts = _read_concepts(directory)
    official = {part.lower(): part for part in _PARTS}
    if split in official and (directory / "lists" / f"{split}.txt").exists():
        raise InputError(
            f"{directory / 'lists' / split}.txt: {split!r} is the official list; give this one another name"
        )
    if split in official:
        image_list, names, targets = _read_part(directory, official[split], concepts)
    else:
        image_list = directory / "lists" / f"{split}.txt"
        names, targets = _read_other_list(image_list, directory, concepts)
    folder = ImageFolder(directory / "Flickr", image_list)
    labels = label_lists(targets)
    records, missing = [], []
    for name, concept_indices in zip(names, labels, strict=True):
        if not concept_indices and not keep_unlabeled:
            continue
        if name in folder:
            records.append({"file_name": folder.path(name), "image_id": name, "labels": concept_indices})
        else:
            missing.append(name)
    if missing:
        text = (
            f"{image_list}: images that are not in {folder.root}: {len(missing)} of {len(missing) + len(records)}, "
            f"the first is {missing[0]}"
        )
        if not records:
            raise InputError(f"{text}; put the images there")
        logger.warning("%s; left out. tools/dataset_manifest.py says which images a number is on.", text)
    return MultiLabelDataset(PackedRecords(records), concepts, [], folder.root)


def _read_concepts(directory: Path) -> list[str]:
    path = directory / "ConceptsList" / "Concepts81.txt"
    concepts: dict[str, int] = {}
    for line, name in read_lines(path, _REMEDY):
        if name in concepts:
            raise InputError(f"{path}: line {line}: concept {name!r} is also in line {concepts[name]}; remove one")
        concepts[name] = line
    for labels in sorted(directory.glob(f"{_LABELS}/Labels_*_Train.txt")):
        name = labels.stem.removeprefix("Labels_").removesuffix("_Train")
        if name not in concepts:
            raise InputError(f"{path}: has no concept {name!r}, but {labels} is there; {_REMEDY}")
    if not concepts:
        raise InputError(f"{path}: no concept; {_REMEDY}")
    return list(concepts)


def _read_list(path: Path) -> dict[str, int]:
    """{file name with "/": line} of a list of images."""
    lines: dict[str, int] = {}
    for line, text in read_lines(path, _REMEDY):
        name = relative_name(text.replace("\\", "/"), f"{path}: line {line}", "Flickr/")
        if name in lines:
            raise InputError(f"{path}: line {line}: {name!r} is also in line {lines[name]}; remove one")
        lines[name] = line
    if not lines:
        raise InputError(f"{path}: the list is empty; {_REMEDY}")
    return lines


def _read_part(directory: Path, part: str, concepts: list[str]) -> tuple[Path, list[str], np.ndarray]:
    """(path of the list, file names, (N, C) uint8 labels) of one part of the official split."""
    path = directory / "ImageList" / f"{part}Imagelist.txt"
    names = list(_read_list(path))
    targets = np.empty((len(names), len(concepts)), dtype=np.uint8)
    for index, concept in enumerate(concepts):
        labels_file = directory / _LABELS / f"Labels_{concept}_{part}.txt"
        values = _read_label_file(labels_file)
        if len(values) != len(names):
            raise InputError(f"{labels_file}: {len(values)} labels, but {path} lists {len(names)} images; {_REMEDY}")
        targets[:, index] = values
    return path, names, targets


def _read_label_file(path: Path) -> np.ndarray:
    """(N,) uint8 of 0 and 1."""
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except FileNotFoundError:
        raise InputError(f"{path}: file not found; {_REMEDY}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {_REMEDY}") from error
    values = content.split()
    if not {b"0", b"1"}.issuperset(values):
        for number, line in enumerate(content.splitlines(), start=1):
            if line.strip() not in (b"0", b"1", b""):
                raise InputError(f"{path}: line {number}: {line.decode(errors='replace')!r} is not 0 or 1; {_REMEDY}")
    return np.frombuffer(b"".join(values), dtype=np.uint8) - ord("0") if values else np.empty(0, np.uint8)


def _read_other_list(path: Path, directory: Path, concepts: list[str]) -> tuple[list[str], np.ndarray]:
    """(file names, (N, C) uint8 labels) of a list of one's own; its images may be of both official parts."""
    lines = _read_list(path)
    rows: dict[str, np.ndarray] = {}
    for part in _PARTS:
        _, names, targets = _read_part(directory, part, concepts)
        rows.update(zip(names, targets, strict=True))
    for name, line in lines.items():
        if name not in rows:
            raise InputError(
                f"{path}: line {line}: {name!r} is in neither official list, so it has no labels; take it out"
            )
    return list(lines), np.stack([rows[name] for name in lines])
