"""Datasets by name, registered in Detectron2's catalogs on first use."""

import difflib
import math
import operator
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from mlickd.environment import dataset_root
from mlickd.errors import InputError, shorten_list

from . import scenes
from .parts import parse_part
from .records import PackedRecords, check_records, gc_paused
from .sources.coco import coco_sources
from .sources.dataset_files import DatasetSource, read_lines
from .sources.folder import folder_sources
from .sources.nus_wide import nus_wide_sources
from .sources.voc import voc_sources

RUN_CLASSES_FILE = "classes.txt"  # in the OUTPUT_DIR of a run: class names, one per line, in the order of the scores
_NOT_FOLDER_DATASETS = {"VOC2007", "VOC2012", "coco", "nus_wide", "proposals"}  # a search of these is slow
_SCENES = [f"{scenes.FOLDER}_{split}" for split in scenes.COUNTS]


class UnknownDatasetError(InputError):
    """A name that is not the name of a dataset."""


class _Checked(NamedTuple):
    """A registered dataset whose records were read and checked."""

    load: Callable[[], list[dict]]  # entry of `DatasetCatalog`; outdated if the catalog has another entry
    records: PackedRecords
    origin: object  # the dataset root; for a part, the records of the whole; None if it was registered elsewhere


_checked: dict[str, _Checked] = {}


@gc_paused()
def ensure_registered(name: str) -> None:
    """Register a dataset in `DatasetCatalog` and `MetadataCatalog`, unless it is registered, and check its records.

    Known datasets are COCO, VOC and NUS-WIDE below `dataset_root()`, `scenes_train` and `scenes_test` (drawn on first
    use), the folder datasets `<folder>_<split>`, and parts of all datasets (`@KofN` or `@notKofN` at the end of the
    name). The metadata has `thing_classes` and `format`.

    Raises:
        InputError: the dataset does not exist, or its files or records are wrong.
    """
    root = dataset_root()
    registered, checked = DatasetCatalog.data.get(name), _checked.get(name)
    # An entry that was replaced in DatasetCatalog must be checked again.
    is_checked = checked is not None and checked.load is registered
    if is_checked and checked.origin in (None, root):
        return
    if registered is not None and not is_checked:
        _check_registered(name, registered)
    elif (part := parse_part(name)) is not None:
        ensure_registered(part.whole)
        whole = _checked[part.whole].records
        if not is_checked or checked.origin is not whole:
            records = whole.select(part.indices([record["image_id"] for record in whole.without_boxes()]))
            metadata = MetadataCatalog.get(part.whole).as_dict()
            check_records(records.without_boxes(), metadata["thing_classes"], f"dataset {name!r}")
            _register(name, whole, records, {key: value for key, value in metadata.items() if key != "name"})
    else:
        source = _find_source(name, root)
        dataset = source.load()
        check_records(dataset.records.without_boxes(), dataset.class_names, str(source.files[0]))
        metadata = {"thing_classes": dataset.class_names, "format": dataset.format, **source.metadata}
        _register(name, root, dataset.records, metadata)


@gc_paused()
def dataset_records(name: str, *, boxes: bool = True) -> list[dict]:
    """Return the checked records of a dataset: new dicts at every call, read from disk once.

    Without ``boxes`` the records do not have `annotations`, which is fast and takes little memory. See
    :func:`ensure_registered` for errors.
    """
    ensure_registered(name)
    records = _checked[name].records
    return list(records) if boxes else records.without_boxes()


def class_names(name: str) -> list[str]:
    """Return the names of the classes of a dataset, in the order of their indices."""
    ensure_registered(name)
    return list(MetadataCatalog.get(name).thing_classes)


def run_classes(folder: str | os.PathLike[str]) -> list[str] | None:
    """Return the class names in the ``classes.txt`` of a run; None if the folder does not have this file."""
    path = Path(folder) / RUN_CLASSES_FILE
    return [name for _, name in read_lines(path, "write one name per line")] if path.is_file() else None


def check_run_classes(checkpoint: str, key: str, dataset: str) -> None:
    """Check that the run of a checkpoint has the classes of a dataset, in the same order.

    Args:
        checkpoint: path of the checkpoint. A checkpoint without the ``classes.txt`` of its run is accepted.
        key: configuration key or option that names the checkpoint, for the error message.
        dataset: name of the dataset.

    Raises:
        InputError: the classes differ.
    """
    path = Path(checkpoint).with_name(RUN_CLASSES_FILE)
    if (names := run_classes(path.parent)) is not None and names != class_names(dataset):
        raise InputError(f"{key} {checkpoint}: {path} has other classes than {dataset}, or in another order")


def available_datasets() -> list[str]:
    """Return the names of the scenes, of the datasets below the root, and of registered datasets with images."""
    names = {*_SCENES, *(name for name, source in _known_sources(dataset_root()).items() if source.exists())}
    for name, load in DatasetCatalog.data.items():
        if name in _checked and _checked[name].load is load and _checked[name].origin is not None:
            continue  # a part, or a dataset below this root or another root
        # Detectron2 registers its built-in datasets whether or not they are on this machine.
        metadata = MetadataCatalog.get(name)
        place = metadata.get("image_root") or metadata.get("image_dir") or metadata.get("dirname")
        if place is None or os.path.isdir(place):
            names.add(name)
    return sorted(names)


def _known_sources(root: Path, name: str = "") -> dict[str, DatasetSource]:
    """Return COCO, VOC and NUS-WIDE, whether or not they exist, and the folder datasets, all by name.

    ``name``: search only the folders that this dataset may be in, because a search of large folders takes long.
    """
    # Two folders can give the same name, because folders and splits may have underscores. The longest folder wins.
    folders = set(root.glob("[!.]*")) - {root / other for other in _NOT_FOLDER_DATASETS}
    folders = [folder for folder in folders if not name or name.startswith(f"{folder.name}_")]
    folders.sort(key=lambda folder: len(folder.name))
    found = {f"{folder.name}_{split}": source for folder in folders for split, source in folder_sources(folder).items()}
    return {**found, **coco_sources(root), **voc_sources(root), **nus_wide_sources(root)}


def _find_source(name: str, root: Path) -> DatasetSource:
    if name in _SCENES:
        scenes.ensure_scenes(root)
    known = _known_sources(root, name)
    if name in known:
        return known[name]
    available = available_datasets()
    close = difflib.get_close_matches(name, {*available, *_known_sources(root)}, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise UnknownDatasetError(
        f"unknown dataset {name!r}{hint}; choose one of {shorten_list(available)}, or put images/ and "
        f"labels_<split>.csv into a folder of {root} and give <folder>_<split>, or set DETECTRON2_DATASETS to the "
        "folder of your datasets"
    )


def _register(name: str, origin: object, records: PackedRecords, metadata: dict[str, Any]) -> None:
    """Add a dataset to both catalogs, or replace the entry with this name."""
    load = partial(list, records)
    for catalog in (DatasetCatalog, MetadataCatalog):
        if name in catalog:
            catalog.remove(name)
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(**metadata)
    _checked[name] = _Checked(load, records, origin)


def _check_registered(name: str, load: Callable[[], list[dict]]) -> None:
    """Check a dataset that was registered elsewhere, and complete its records."""
    where = f"dataset {name!r}"
    try:
        records = [_complete_record(record) for record in load()]
        packed = PackedRecords(records)
        missing = [record["file_name"] for record in records if not os.path.isfile(record["file_name"])]
        # The function that loads the records may set the classes.
        if (classes := MetadataCatalog.get(name).get("thing_classes")) is None:
            raise InputError(f"{where}: has no classes; set `MetadataCatalog.get({name!r}).thing_classes`")
        check_records(records, classes, where)
    except (OSError, KeyError, AssertionError, AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"{where}: cannot be read, or has a wrong record ({type(error).__name__}: {' '.join(str(error).split())}); "
            "records need 'file_name', 'image_id', and 'labels' or 'annotations', whose 'bbox' is 4 finite numbers"
        ) from error
    if missing:
        raise InputError(f"{where}: {missing[0]}: image file not found; put it there")
    _checked[name] = _Checked(load, packed, None)


def _complete_record(record: dict) -> dict:
    """Return a copy of a record with corner boxes, and with `labels` and sizes as Python integers.

    The default of `labels` are the categories of the boxes.
    """
    record = dict(record)
    if "annotations" in record:
        record["annotations"] = [
            {**box, "bbox": BoxMode.convert(list(box["bbox"]), box["bbox_mode"], BoxMode.XYXY_ABS)}
            for box in record["annotations"]
        ]
        if not all(math.isfinite(value) for box in record["annotations"] for value in box["bbox"]):
            raise ValueError(f"bbox of {record['file_name']}")
    if "labels" not in record:
        record["labels"] = [box["category_id"] for box in record["annotations"]]
    for field in {"labels", "ignored_labels"} & record.keys():
        record[field] = sorted({operator.index(label) for label in record[field]})
    size = record.pop("height", None), record.pop("width", None)
    if None not in size:
        record["height"], record["width"] = map(int, size)
    return record
