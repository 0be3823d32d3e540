"""Readers of the label files of annotation tools: tables, Label Studio, CVAT, and a folder for each class.

A reader takes the path and the class names; without names, the file defines them. datasets/README.md shows the forms.
"""

import ast
import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import msgspec
import numpy as np

from mlickd.errors import InputError, shorten_list
from mlickd.files import file_digest

from .coco import read_coco
from .dataset_files import images_below, is_image, normalize_name, parse_xml, read_text, read_unique_lines

REMEDY = "write a table with the header file_name,labels, or export the labels again"

# Headers of columns without letter case, spaces, "_" and "-".
_FILE = set("filename file filepath image imagename imagepath imageid imageurl img path photo url".split())
_LABELS = set("label labels tag tags class classes category categories choice choices".split())
_IGNORED_COLUMNS = set("id index annotationid annotator createdat updatedat leadtime".split()) | {""}

_MARKS = ("choices", "labels", "taxonomy")  # types in Label Studio, or ends of types such as "rectanglelabels"

_CELLS = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0, "-1": -1, "-1.0": -1}  # pandas may write "1.0"

_SEPARATORS = ";|,\t\n "  # of labels in a cell

LabelSource = tuple[str, Path, Path, Callable]  # split, label file (or folder of classes), folder of images, reader
LabelRow = tuple[str, str, list[str], list[str]]  # place in the file, file name, labels, unknown labels


class LabelFile(NamedTuple):
    """The format of a label file in words, its rows, its classes, and whether the rows of an image add up."""

    format: str
    rows: list[LabelRow]
    declared: Sequence[str] = ()
    rows_add_up: bool = False

    def class_names(self) -> list[str]:
        """Return the declared classes, by default the sorted labels."""
        return list(self.declared) or sorted({label for row in self.rows for label in row[2]})


def read_classes(path: Path) -> list[str]:
    """Return the names of the classes in a `classes.txt`."""
    return read_unique_lines(path, "write one class per line", lambda name, where: normalize_name(name))


def read_table(path: Path, class_names: Sequence[str]) -> LabelFile:
    """Read a table of labels, also from Roboflow (`_classes.csv`) or Label Studio."""
    text = read_text(path, REMEDY)
    first = next((line for line in text.split("\n") if line.strip(" \r,;\t")), "")
    delimiter = next((mark for mark in "\t;" if mark in first and "," not in first), ",")
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        rows = [(f"{path}: line {reader.line_num}", [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: not a CSV row ({error}); save the table as CSV") from error
    return _read_rows(path, [row for row in rows if any(row[1])] or [(str(path), [])], class_names)


def _read_rows(path: Path, rows: list[tuple[str, list[str]]], class_names: Sequence[str]) -> LabelFile:
    """Return the content of (place, cells) rows. The first row is the header."""
    (where, header), *rows = rows
    while header and not header[-1]:
        header = header[:-1]  # spreadsheet programs add empty columns
    names = [normalize_name(cell) for cell in header]
    keys = [re.sub(r"unnamed: *\d+|[\s_-]", "", cell.lower()) for cell in header]  # pandas calls an index "Unnamed: 0"
    label_studio, roboflow = "annotationid" in keys or path.suffix == ".json", path.name == "_classes.csv"
    if roboflow:
        class_names = names[1:]
    elif not class_names and not label_studio and not _LABELS.intersection(keys):
        class_names = [name for name, key in zip(names, keys, strict=True) if key not in _FILE | _IGNORED_COLUMNS]
    known = set(class_names)
    by_class = roboflow or (not label_studio and keys != ["filename", "labels"] and bool(known.intersection(names)))

    def meaning(name: str, key: str) -> str:
        if by_class and name in known:
            return name
        if not by_class and (key in _LABELS or (label_studio and key not in _FILE | _IGNORED_COLUMNS)):
            return "labels"
        return "file_name" if key in _FILE else "" if key in _IGNORED_COLUMNS else "?"

    columns = [meaning(*column) for column in zip(names, keys, strict=True)]
    required = ["file_name", *(class_names if by_class else ["labels"])]
    wrong = [name for i, name in enumerate(names) if columns[i] and columns[i] in ("?", *columns[:i])]
    if wrong or (missing := [name for name in required if name not in columns]):
        raise InputError(
            f"{where}: the header is {shorten_list(header)!r}, column {(wrong or missing)[0]!r} is "
            f"{'wrong' if wrong else 'missing'}; write 'file_name,labels', or 'file_name' and each class of the dataset"
        )
    if not known and not by_class and not label_studio:
        # Labels are joined by the first of these separators that occurs.
        place = columns.index("labels")
        cells = [cell for _, row in rows for cell in (*row[place : place + 1], *row[len(header) :])]
        texts = [text for cell in cells for text in _split_labels(cell, ())]
        separator = next((mark for mark in _SEPARATORS[:-1] if any(mark in text for text in texts)), "\0")
        known = {normalize_name(label) for text in texts for label in text.split(separator)}
    result = []
    for where, cells in rows:
        row, extra = dict(zip(columns, cells, strict=False)), [cell for cell in cells[len(header) :] if cell]
        # The first column may be the index that pandas writes without a name.
        unnamed = [c for i, c in enumerate(cells[: len(header)]) if not keys[i] and c and (i or not c.isdigit())]
        if unnamed:
            raise InputError(f"{where}: {unnamed[0]!r} is in a column without a name; name the column, or delete it")
        if len(cells) < len(header) or (extra and columns[-1] != "labels"):
            raise InputError(
                f"{where}: {len(cells)} fields, but the header has {len(header)}; join labels with ';', or give each "
                "class its cell"
            )
        if by_class:
            values = {name: row[name].lower() for name in required[1:]}
            if bad := [name for name in names if values.get(name, "0") not in _CELLS]:
                problem = f"{row[bad[0]]!r} for class {bad[0]!r}; write 1 (present), 0 (absent) or -1 (unknown)"
                raise InputError(f"{where}: {problem}")
            marked = [[name for name in values if _CELLS[values[name]] == value] for value in (1, -1)]
        else:
            marked = [label for text in (row["labels"], *extra) for label in _split_labels(text, known)], []
        result.append((where, row["file_name"], *marked))
    if roboflow:
        return LabelFile("multi-label export of Roboflow", result, class_names)
    if label_studio:
        return LabelFile("table or JSON-MIN of Label Studio", result)
    format = f"table with {'a column for each class' if by_class else 'labels'}"
    return LabelFile(format, result, class_names, rows_add_up=not by_class)


def _split_labels(text: str, known: Collection[str], separators: str = _SEPARATORS) -> list[str]:
    """Return the labels in a cell: a list in JSON or Python, or known labels with ";" or another separator."""
    text, name = text.strip(), normalize_name(text)
    if name in known or not name:
        return [name] if name else []
    for parse in (json.loads, _parse_python) if text[0] in "[{(" else ():
        try:
            value = parse(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        marks = [value] if isinstance(value, dict) else value
        if isinstance(marks, (list, tuple, set)):
            return [label for mark in marks for label in (_marked(mark) if isinstance(mark, dict) else _names([mark]))]
    if not known or not separators:
        return [text]
    parts = [part.strip() for part in text.split(separators[0]) if part.strip()]
    labels = [label for part in parts for label in _split_labels(part, known, separators[1:])]
    # A label may contain a space or a comma. A label that is misspelled stays whole in the message about it.
    found = [label in known for label in labels]
    is_list = separators[0] == ";" or (all(found) if separators[0] == " " else any(found))
    return labels if is_list else [text]


def _parse_python(text: str) -> object:
    return ast.literal_eval(re.sub(r"(['\"])\s+(?=['\"])", r"\1, ", text))  # NumPy writes no commas


def _marked(mark: dict) -> list[str]:
    """Return the labels of a choice, region or taxonomy of Label Studio; without labels, the mark as text."""
    lists = (value for key, value in mark.items() if str(key).endswith(_MARKS) and isinstance(value, list))
    return _names(next(lists, [mark]))


def _names(labels: Iterable[object]) -> list[str]:
    """Return labels as text. A label of a taxonomy is a list of names."""
    return [normalize_name("/".join(map(str, label)) if isinstance(label, list) else str(label)) for label in labels]


def read_label_studio(path: Path, class_names: Sequence[str]) -> LabelFile:
    """Read the JSON or JSON-MIN of Label Studio. Labels are the choices, and the labels of regions."""
    where, rows = str(path), []
    try:
        tasks = msgspec.json.decode(read_text(path, REMEDY), type=list[dict])
        if not any("annotations" in task for task in tasks):
            header = list(dict.fromkeys(key for task in tasks for key in task))
            cells = [[task.get(key, "") for key in header] for task in tasks]
            texts = [[cell if isinstance(cell, str) else json.dumps(cell) for cell in row] for row in cells]
            places = [f"{path}: item {index}" for index in range(1, len(tasks) + 1)]
            return _read_rows(path, [(where, header), *zip(places, texts, strict=True)], class_names)
        for index, task in enumerate(tasks, start=1):
            where = f"{path}: task {task.get('id', index)}"
            names = [text for text in task["data"].values() if isinstance(text, str)]
            image = next((n for n in names if is_image(n)), names[0])
            for annotation in task["annotations"]:
                marks = [mark for mark in annotation["result"] if mark["type"].endswith(_MARKS)]
                labels = [label for mark in marks for label in _names(mark["value"][mark["type"]])]
                if not annotation.get("was_cancelled"):
                    rows.append((where, image, labels, []))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        problem = f"is not JSON of Label Studio with choices ({str(error).replace('`', '')})"
        raise InputError(f"{where}: {problem}; export it again, or name COCO JSON instances_<split>.json") from error
    return LabelFile("JSON of Label Studio", rows)


def read_cvat(path: Path, class_names: Sequence[str]) -> LabelFile:
    """Read the XML that CVAT exports as "CVAT for images". Labels are the tags, and the labels of shapes."""
    text = read_text(path, REMEDY)
    try:
        root = parse_xml(text)
        if root.tag != "annotations" or root.find("track") is not None:
            raise ValueError("not the elements 'annotations' and 'image'")
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{path}: is not XML of CVAT ({error}); export it as 'CVAT for images 1.1'") from error
    rows = []
    for image in root.iterfind("image"):
        labels = [normalize_name(label) for shape in image if (label := shape.get("label"))]
        rows.append((f"{path}: image {image.get('id')}", image.get("name", ""), labels, []))
    names = (name.text for name in root.iterfind("meta//label/name"))
    declared = dict.fromkeys(normalize_name(name) for name in names if name)
    return LabelFile("XML of CVAT for images", rows, list(declared))


def read_coco_labels(path: Path, class_names: Sequence[str]) -> LabelFile:
    """Read COCO-format JSON. Labels are the categories of the boxes."""
    file = read_coco(path)
    present = np.zeros((len(file.images), len(file.category_names)), dtype=bool)
    present[file.annotations["image"], file.annotations["category"]] = True
    names = np.array(file.category_names, dtype=object)
    rows = [
        (f"{path}: image {image.id}", image.file_name, list(names[labels]), [])
        for image, labels in zip(file.images, present, strict=True)
    ]
    return LabelFile("COCO-format JSON", rows, list(names[present.any(axis=0)]))  # tools add categories without boxes


def read_class_folders(path: Path, class_names: Sequence[str]) -> LabelFile:
    """Read a folder with a folder of photos for each class. Equal files in several folders are one photo."""
    first: dict[object, str] = {}
    rows = []
    try:
        photos = {Path(photo): Path(photo).stat().st_size for photo in images_below(path)}
        copies = Counter(photos.values())
        # Only files of one size can be equal.
        digests = {photo: file_digest(photo) for photo, size in photos.items() if copies[size] > 1}
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}); remove it") from error
    for photo in photos:
        name = photo.relative_to(path)
        content = digests.get(photo, name)
        labels = [normalize_name(label) for label in name.parts[:-1][:1]]
        rows.append((str(photo), first.setdefault(content, name.as_posix()), labels, []))
    return LabelFile("folder for each class", rows, rows_add_up=True)


_READERS = {
    "labels_*.csv": read_table,
    "labels_*.json": read_label_studio,
    "labels_*.xml": read_cvat,
    "_classes.csv": read_table,
    "*/_classes.csv": read_table,
    "*/_annotations.coco.json": read_coco_labels,
    "annotations.xml": read_cvat,
    "project-*-at-*.csv": read_table,
    "project-*-at-*.json": read_label_studio,
}


def find_labels(folder: Path) -> Iterator[LabelSource]:
    """Yield the label files of a folder dataset, or class folders. A source without the name of a split is "all"."""
    found = [(path, reader) for pattern, reader in _READERS.items() for path in sorted(folder.glob(pattern))]
    # Not `Path.is_dir`, which fails in a folder without permissions, such as `lost+found`.
    images = folder / "images" if os.path.isdir(folder / "images") else folder
    for path, reader in found:
        split = path.stem.removeprefix("labels_") if path.stem.startswith("labels_") else "all"
        below = path.parent != folder
        yield path.parent.name if below else split, path, path.parent if below else images, reader
    if not found and not any(folder.glob("instances_*.json")):
        # `<split>/<class>/<photo>`, or `<class>/<photo>` with several classes, which may have subfolders
        direct = _folders_of_photos(folder)
        classes = {place for place in direct if not place.name.startswith(("train", "val", "test"))}
        splits = [place for place in sorted(folder.glob("[!.]*")) if _folders_of_photos(place) and place not in classes]
        for place in splits or [folder] * (len(direct) > 1 and bool(classes)):
            yield "all" if place == folder else place.name, place, place, read_class_folders


def _folders_of_photos(folder: Path) -> set[Path]:
    return {file.parent for file in folder.glob("[!.]*/[!.]*.*") if is_image(file.name)}
