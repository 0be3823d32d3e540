"""The tables of labels of folder datasets, `labels_<split>.csv`, in their two forms.

    file_name,labels              file_name,cat,dog
    rex.jpg,dog;cat               rex.jpg,1,1
    garden/0001.png,              garden/0001.png,0,-1

In the second form every class has a column: 1 where it is in the image, 0 where it is not, -1 where nobody knows, which
training and metrics then leave out. An empty cell is refused: some mean "no" by it, and others "unknown".
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlickd.errors import InputError

from ..text_files import read_text
from .image_folder import relative_name

FOLDER_REMEDY = "put it there as datasets/README.md shows"

# Letters of a header that a message shows.
_LONGEST = 60

# (where, cells) to the classes that are in the image, and those that are to be ignored.
_RowReader = Callable[[str, list[str]], tuple[set[int], set[int]]]

_CELLS = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1}  # with a point, as pandas may write them


@dataclass(frozen=True)
class LabelRow:
    """One image of a table: the line where it is listed, and sorted class indices."""

    line: int
    labels: list[int]
    ignored_labels: list[int]


def read_label_table(path: Path, class_names: Sequence[str]) -> dict[str, LabelRow]:
    """File name to row, in the order of the table.

    Args:
        path: of the table, UTF-8; a byte order mark, Windows line ends and blank lines are accepted.
        class_names: names of the C classes.

    Raises:
        InputError: naming the file and the line.
    """
    table = _read_cells(path)
    line, header = next(table, (1, []))
    read_row = _row_reader(f"{path}: line {line}", header, class_names, path.with_name("classes.txt"))
    rows: dict[str, LabelRow] = {}
    for line, cells in table:
        where = f"{path}: line {line}"
        if len(cells) != len(header):
            hint = "join labels with ';'" if header[1] == "labels" else "give as many as the header has"
            raise InputError(f"{where}: {len(cells)} fields where {len(header)} are due; {hint}")
        file_name = relative_name(cells[0], where)
        if file_name in rows:
            raise InputError(
                f"{where}: duplicate image id {file_name!r}, which is also in line {rows[file_name].line}; remove one"
            )
        labels, ignored_labels = read_row(where, cells[1:])
        rows[file_name] = LabelRow(line, sorted(labels), sorted(ignored_labels))
    return rows


def _row_reader(where: str, header: list[str], class_names: Sequence[str], classes: Path) -> _RowReader:
    """What reads the cells behind the file name, as the header says."""
    indices = {name: index for index, name in enumerate(class_names)}

    def read_joined(where: str, cells: list[str]) -> tuple[set[int], set[int]]:
        labels = {label.strip() for label in cells[0].split(";")} - {""}
        for label in sorted(labels - indices.keys()):
            raise InputError(f"{where}: label {label!r} is not in {classes}; add or correct it")
        return {indices[label] for label in labels}, set()

    def read_columns(where: str, cells: list[str]) -> tuple[set[int], set[int]]:
        found: dict[int, set[int]] = {1: set(), 0: set(), -1: set()}
        for name, cell in zip(header[1:], cells, strict=True):
            if cell not in _CELLS:
                raise InputError(
                    f"{where}: {cell!r} for class {name!r}; write 1 (there), 0 (not there) or -1 (unknown)"
                )
            found[_CELLS[cell]].add(indices[name])
        return found[1], found[-1]

    if header == ["file_name", "labels"]:
        return read_joined
    if header[:1] == ["file_name"] and sorted(header[1:]) == sorted(class_names):
        return read_columns
    text = ",".join(header)
    problem = f"the header is {text if len(text) <= _LONGEST else text[:_LONGEST] + ' ...'!r}"
    for separator in (";", "\t"):
        if len(header) == 1 and separator in text:
            raise InputError(f"{where}: {problem}, with {separator!r} between its columns; save the table with commas")
    for name in header[1:]:
        if name not in indices and len(header) > 2:
            problem = f"column {name!r} is not a class"
        elif header.count(name) > 1:
            problem = f"class {name!r} has two columns"
    raise InputError(f"{where}: {problem}; write 'file_name,labels', or 'file_name' and once each class of {classes}")


def _read_cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of the rows that are not blank."""
    reader = csv.reader(read_text(path, FOLDER_REMEDY).split("\n"))
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise InputError(
            f"{path}: line {reader.line_num}: not a CSV row ({error}); save the table again as CSV"
        ) from error
