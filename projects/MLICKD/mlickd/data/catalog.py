"""Datasets by name: registered in Detectron2's catalogs when they are first asked for."""

from __future__ import annotations

import difflib
import gc
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from mlickd.errors import InputError, shorten_list

from . import scenes
from .packed_records import PackedRecords
from .parts import Part, parse_part, whole_name
from .records import MultiLabelDataset, check_records
from .sources.coco import coco_sources
from .sources.folder import folder_source, folder_splits
from .sources.nus_wide import nus_wide_list, nus_wide_sources
from .sources.source import DatasetSource
from .sources.voc import voc_sources

# Each gives the datasets that it knows below a root, by name, whether or not they are there.
_FAMILIES = (coco_sources, voc_sources, nus_wide_sources)

# What is before the split in their names, the split, and the protocol.
_FAMILY_NAME = re.compile(r"((?:coco|voc)_\d{4}_|nus_wide_)(.+)(_multilabel\w*)")

# What is read once is kept for the life of the process.
_loaded: dict[tuple[str, Path], MultiLabelDataset] = {}
_registered: dict[str, tuple[Path, Callable[[], list[dict]]]] = {}
_checked: dict[str, tuple[Callable[[], list[dict]], PackedRecords]] = {}
# Of the parts of datasets, the records of the whole that they were taken from.
_wholes: dict[str, PackedRecords] = {}


class UnknownDatasetError(InputError):
    """There is no dataset of this name."""


def dataset_root() -> Path:
    """The directory of all datasets: $DETECTRON2_DATASETS, else `datasets`."""
    return Path(os.environ.get("DETECTRON2_DATASETS") or "datasets").expanduser().absolute()


def ensure_registered(name: str) -> None:
    """Make `name` known to `DatasetCatalog` and `MetadataCatalog`.

    A name that is registered already is used as it is. Else it is of a known family below `dataset_root()`, or
    `scenes_train` or `scenes_test`, drawn on first use, or the folder dataset `<directory>_<split>`. With `@KofN` or
    `@notKofN` behind it, it is a part of one of all these. The metadata has `thing_classes`, `box_classes`,
    `image_root` and `evaluator_type`.

    Raises:
        InputError: there is no such dataset, or something in it is wrong.
    """
    root = dataset_root()
    ours = _registered.get(name)
    if name in DatasetCatalog and (ours is None or DatasetCatalog[name] is not ours[1]):
        _adopt(name)
    elif (part := parse_part(name)) is not None:
        _register_part(name, part, root)
    elif name not in DatasetCatalog or ours is None or ours[0] != root:
        _register(name, root)


def dataset_records(name: str, *, boxes: bool = True) -> list[dict]:
    """The checked records of a dataset: new dicts at every call, read from disk once.

    Args:
        name: of the dataset.
        boxes: whether they have their `annotations`; without, this is quick and takes little memory.

    Raises:
        InputError: as `ensure_registered`.
    """
    ensure_registered(name)
    records = _checked[name][1]
    with _collection_paused():
        return list(records) if boxes else records.without_boxes()


def class_names(name: str) -> list[str]:
    """The names of the classes of a dataset, in the order of their indices.

    Raises:
        InputError: as `ensure_registered`.
    """
    ensure_registered(name)
    return list(MetadataCatalog.get(name).thing_classes)


def available_datasets() -> list[str]:
    """Names that can be asked for now: scenes, known datasets and folders that are there, and registered ones."""
    root = dataset_root()
    names = {f"{scenes.DIRECTORY}_{split}" for split in scenes.COUNTS}
    names.update(name for name, source in _known(root).items() if source.is_here())
    for directory in root.glob("*"):
        names.update(f"{directory.name}_{split}" for split in folder_splits(directory))
    for name in DatasetCatalog.list():
        ours = _registered.get(name)
        # Parts go without saying; what was registered below another root is not here.
        if ours is not None and (ours[0] != root or name in _wholes) and DatasetCatalog[name] is ours[1]:
            continue
        # Detectron2 registers its built-in datasets whether or not they are on this machine.
        metadata = MetadataCatalog.get(name)
        place = metadata.get("image_root") or metadata.get("image_dir") or metadata.get("dirname")
        if place is None or os.path.isdir(place):
            names.add(name)
    return sorted(names)


def other_splits(names: Sequence[str]) -> dict[str, DatasetSource]:
    """The splits that are there of the datasets that these are splits of, and that are not among them.

    VOC's trainval counts as its train and val together. Datasets that are registered elsewhere have none. Of a part,
    the whole is another split.
    """
    root = dataset_root()
    known = {name: source for name, source in _known(root).items() if source.is_here()}
    found: dict[str, DatasetSource] = {}
    for name in map(whole_name, names):
        if name in known:
            start, _, end = _FAMILY_NAME.fullmatch(name).groups()
            splits = {_FAMILY_NAME.fullmatch(other)[2]: source for other, source in known.items()
                      if _FAMILY_NAME.fullmatch(other).group(1, 3) == (start, end)}  # fmt: skip
        else:
            directory = next((d for d in _folders(name, root) if name[len(d.name) + 1 :] in folder_splits(d)), None)
            start, end = f"{directory.name}_" if directory else "", ""
            splits = {split: folder_source(directory, split) for split in folder_splits(directory)} if directory else {}
        given = {split for split in splits if f"{start}{split}{end}" in names}
        if "trainval" in given:
            given |= {"train", "val"}
        elif given & {"train", "val"}:
            given.add("trainval")
        found.update({f"{start}{split}{end}": splits[split] for split in splits.keys() - given})
    return dict(sorted(found.items()))


def _folders(name: str, root: Path) -> list[Path]:
    """The directories that a folder dataset of this name may be in, the one of the longest name first."""
    cuts = [index for index, character in enumerate(name) if character == "_" and index]
    return [root / name[:cut] for cut in reversed(cuts)] if os.path.basename(name) == name else []


def _known(root: Path) -> dict[str, DatasetSource]:
    return {name: source for family in _FAMILIES for name, source in family(root).items()}


def _register(name: str, root: Path) -> None:
    source = _known(root).get(name) or _locate(name, root)
    if (name, root) not in _loaded:
        with _collection_paused():
            dataset = source.load()
            check_records(dataset.records.without_boxes(), dataset.class_names, str(source.files[0]))
        _loaded[name, root] = dataset
    dataset = _loaded[name, root]
    metadata = {
        "thing_classes": dataset.class_names,
        "box_classes": dataset.box_classes,
        "image_root": dataset.image_root,
        "evaluator_type": "multilabel",
    }
    _enter(name, root, dataset.records, {**metadata, **source.metadata})


def _register_part(name: str, part: Part, root: Path) -> None:
    ensure_registered(part.whole)
    whole = _checked[part.whole][1]
    if name in DatasetCatalog and _wholes.get(name) is whole:
        return
    with _collection_paused():
        records = whole.part(part.indices([record["image_id"] for record in whole.without_boxes()]))
        metadata = MetadataCatalog.get(part.whole).as_dict()
        check_records(records.without_boxes(), metadata["thing_classes"], f"dataset {name!r}")
    del metadata["name"]
    _enter(name, root, records, metadata)
    _wholes[name] = whole


def _enter(name: str, root: Path, records: PackedRecords, metadata: dict[str, Any]) -> None:
    """Into both catalogs, in place of what was there under this name."""

    def load() -> list[dict]:
        with _collection_paused():
            return list(records)

    if name in DatasetCatalog:
        DatasetCatalog.remove(name)
    if name in MetadataCatalog:
        MetadataCatalog.remove(name)
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(**metadata)
    _registered[name] = root, load
    _checked[name] = load, records


def _adopt(name: str) -> None:
    """Check a dataset that someone else registered, and complete its records and metadata."""
    loader = DatasetCatalog[name]
    if name in _checked and _checked[name][0] is loader:
        return
    try:
        with _collection_paused():
            records = [_complete(record, name) for record in DatasetCatalog.get(name)]
    except OSError as error:
        raise InputError(
            f"dataset {name!r}: cannot be read ({error}); give its files the right to be read, or put them back"
        ) from error
    metadata = MetadataCatalog.get(name)
    names = metadata.get("thing_classes")
    if not names:
        raise InputError(f"dataset {name!r}: its metadata has no 'thing_classes'; set it where you register it")
    check_records(records, names, f"dataset {name!r}")
    if metadata.get("box_classes") is None:
        boxes = (box["category_id"] for record in records for box in record.get("annotations", ()))
        metadata.set(box_classes=sorted(set(boxes)))
    if metadata.get("evaluator_type") is None:
        metadata.set(evaluator_type="multilabel")
    _checked[name] = loader, PackedRecords(records)


@contextmanager
def _collection_paused() -> Iterator[None]:
    """Without Python's garbage collector, which looks again and again at the million objects of a large dataset."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _complete(record: dict, name: str) -> dict:
    """A record with `labels`, from the categories of its annotations where it has none, and corner boxes."""
    record = dict(record)
    if "annotations" in record:
        try:
            record["annotations"] = [_complete_box(box) for box in record["annotations"]]
        except KeyError as error:
            raise InputError(
                f"dataset {name!r}: {record.get('file_name')}: an annotation has no {error}; "
                "set it where you register it"
            ) from error
        except (AssertionError, TypeError, ValueError) as error:
            raise InputError(
                f"dataset {name!r}: {record.get('file_name')}: the 'bbox' of an annotation is not 4 finite numbers; "
                "correct it where you register it"
            ) from error
    if "labels" not in record:
        if "annotations" not in record:
            raise InputError(
                f"dataset {name!r}: {record['file_name']} has neither 'labels' nor 'annotations'; give it one"
            )
        record["labels"] = sorted({box["category_id"] for box in record["annotations"]})
    return record


def _complete_box(box: dict) -> dict:
    x0, y0, x1, y1 = BoxMode.convert(list(box["bbox"]), box["bbox_mode"], BoxMode.XYXY_ABS)
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        raise ValueError("not finite")
    return {
        "bbox": [x0, y0, x1, y1],
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": box["category_id"],
        "iscrowd": box.get("iscrowd", 0),
        "difficult": box.get("difficult", 0),
    }


def _locate(name: str, root: Path) -> DatasetSource:
    """The folder dataset `<directory>_<split>`; both parts may hold underscores."""
    if name in {f"{scenes.DIRECTORY}_{split}" for split in scenes.COUNTS}:
        return folder_source(scenes.ensure_scenes(root), name.removeprefix(f"{scenes.DIRECTORY}_"))
    folders = _folders(name, root)
    for directory in folders:
        source = folder_source(directory, name[len(directory.name) + 1 :])
        if source.is_here():
            return source
    for directory in folders:
        split, splits = name[len(directory.name) + 1 :], folder_splits(directory)
        if splits:
            raise UnknownDatasetError(
                f"{directory / f'labels_{split}.csv'}: file not found, so there is no dataset {name!r}; put it there, "
                f"or choose a split of this folder: {shorten_list(splits)}"
            )
    raise _unknown(name, root)


def _unknown(name: str, root: Path) -> UnknownDatasetError:
    available = available_datasets()
    known = _known(root)
    close = difflib.get_close_matches(name, sorted({*available, *known}), n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    if "@" in name:
        hint = " (a part of a dataset is NAME@1of3, and all but that part NAME@not1of3)"
    if close and close[0] not in available:
        missing = next(path for path in known[close[0]].files if not path.exists())
        hint = f" (did you mean {close[0]!r}, of which {missing} is not there?)"
    image_list = nus_wide_list(name, root)
    if image_list is not None:
        return UnknownDatasetError(
            f"{image_list}: file not found, so there is no dataset {name!r}{hint}; put the list of its images there"
        )
    return UnknownDatasetError(
        f"unknown dataset {name!r}{hint}; choose one of {shorten_list(available)}, or put images/, "
        f"classes.txt and labels_<split>.csv into a directory of {root} and call it <directory>_<split>, or set "
        "DETECTRON2_DATASETS to where yours are"
    )
