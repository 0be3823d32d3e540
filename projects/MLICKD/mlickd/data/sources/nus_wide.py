"""NUS-WIDE with 81 concepts from the official lists and labels; datasets/README.md shows the files.

Flickr has lost some images, so copies of the dataset differ. Missing images are skipped, with a warning that counts
them. The records do not have sizes, because the official files do not give them and reading all headers
takes a long time. The mapper and the proposal methods decode the image anyway.
"""

import logging
import os
from functools import partial
from pathlib import Path

import numpy as np

from mlickd.errors import InputError

from ..records import MultiLabelDataset, PackedRecords, label_lists
from .dataset_files import DatasetSource, ImageFolder, read_text, read_unique_lines, relative_name

logger = logging.getLogger(__name__)

_PARTS = {"train": "Train", "test": "Test"}
_LABELS = "Groundtruth/TrainTestLabels"
_REMEDY = "download it again, to this path"


def nus_wide_sources(root: Path) -> dict[str, DatasetSource]:
    """Return `nus_wide_<split>_multilabel` for train, test and each list, also with the suffix `_labeled`."""
    folder = root / "nus_wide"
    lists = {path.stem: path for path in folder.glob("lists/*.txt")}
    lists.update({split: _official_list(folder, split) for split in _PARTS})
    sources = {}
    for split, path in lists.items():
        files = (path, folder / _LABELS, folder / "Flickr")
        for ending, keep_negatives in (("", True), ("_labeled", False)):
            load = partial(load_nus_wide, folder, split, keep_negatives=keep_negatives)
            sources[f"nus_wide_{split}_multilabel{ending}"] = DatasetSource(files, load)
    return sources


def load_nus_wide(folder: str | os.PathLike[str], split: str, *, keep_negatives: bool = True) -> MultiLabelDataset:
    """Read the images of a split of NUS-WIDE that exist. The image id is the listed name, with "/" between folders.

    Args:
        folder: folder with the files that datasets/README.md shows.
        split: `train` or `test` for the official lists, else the name of a file in `lists/`.
        keep_negatives: whether images without a concept are kept; they are negatives of all concepts.

    Raises:
        InputError: a file is missing or corrupt, an image is listed twice or has no labels, or no image exists.
    """
    folder = Path(folder)
    concepts = read_unique_lines(folder / "ConceptsList" / "Concepts81.txt", _REMEDY)
    if split in _PARTS:
        image_list = _official_list(folder, split)
        labels = _read_official(folder, split, concepts)
    else:
        image_list = folder / "lists" / f"{split}.txt"
        official = _read_official(folder, "train", concepts) | _read_official(folder, "test", concepts)
        names = read_unique_lines(image_list, _REMEDY, _clean_name)
        if unknown := [name for name in names if name not in official]:
            raise InputError(f"{image_list}: {unknown[0]!r} has no labels, because it is not in the official lists")
        labels = {name: official[name] for name in names}
    images = ImageFolder(folder / "Flickr")
    kept = {name: indices for name, indices in labels.items() if indices or keep_negatives}
    missing = [name for name in kept if name not in images]
    if missing:
        text = f"{len(missing)} of {len(kept)} images are not in {images.root}, such as {missing[0]}"
        if len(missing) == len(kept):
            raise InputError(f"{image_list}: {text}; put the images there")
        logger.warning("%s: %s; skipped", image_list, text)
    paths = {name: os.path.join(images.root, name) for name in kept if name in images}
    records = [{"file_name": path, "image_id": name, "labels": kept[name]} for name, path in paths.items()]
    return MultiLabelDataset(PackedRecords(records), concepts, "lists of NUS-WIDE")


def _official_list(folder: Path, split: str) -> Path:
    return folder / "ImageList" / f"{_PARTS[split]}Imagelist.txt"


def _clean_name(line: str, where: str) -> str:
    return relative_name(line.replace("\\", "/"), where)


def _read_official(folder: Path, split: str, concepts: list[str]) -> dict[str, list[int]]:
    """Return {file name: sorted indices of its concepts} for `train` or `test`."""
    names = read_unique_lines(_official_list(folder, split), _REMEDY, _clean_name)
    targets = np.empty((len(names), len(concepts)), dtype=bool)
    for index, concept in enumerate(concepts):
        path = folder / _LABELS / f"Labels_{concept}_{_PARTS[split]}.txt"
        values = read_text(path, _REMEDY).split()
        if len(values) != len(names) or not {"0", "1"}.issuperset(values):
            raise InputError(f"{path}: is not {len(names)} lines of 0 or 1, one for each listed image; {_REMEDY}")
        targets[:, index] = np.frombuffer("".join(values).encode(), dtype=np.uint8) == ord("1")
    return dict(zip(names, label_lists(targets), strict=True))
