"""Whether a ``.pt2`` file holds a graph of tensor operations and tensors, and nothing that runs when it is read.

``torch.export.load`` unpickles objects, evaluates expressions, takes operators by name and compiles guards. An exported
student needs nothing of it but operators of ATen and a symbol for the size of the batch.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

from mlickd.errors import InputError

__all__ = ["KNOWN_PYTORCH", "METADATA_FILE", "check_pt2"]

# The layout of a .pt2 depends on the version. This is the least one known to write what is checked here.
KNOWN_PYTORCH = "2.14"

METADATA_FILE = "mlickd.json"

_WEIGHTS = "data/weights/model_weights_config.json"
_CONSTANTS = "data/constants/model_constants_config.json"
_GRAPH, _INPUTS = "models/model.json", "data/sample_inputs/model.pt"
_NEEDED = {_WEIGHTS, _CONSTANTS, _GRAPH, f"extra/{METADATA_FILE}"}
_OTHERS = re.compile(
    r"data/weights/weight_\d+|data/constants/tensor_\d+|data/sample_inputs/model\.pt|archive_format|archive_version"
    r"|byteorder|\.data/version|\.data/serialization_id"
)
_SYMBOL = r"[a-z]{1,2}\d+"
_EXPRESSION = re.compile(rf"{_SYMBOL}|\d+|Symbol\('{_SYMBOL}'(, (positive|integer)=True)*\)")
_OPERATOR = re.compile(r"torch\.ops\.aten\.\w+\.\w+")
_NOT_OF_TENSORS = re.compile(r"\.(from_file|save|load|print|_print|warn)\b")

# What reading ends in where an archive is damaged, or its JSON is not what it should be.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, AttributeError, EOFError, LookupError, OSError)
_UNREADABLE += (RuntimeError, TypeError, ValueError)


def check_pt2(content: bytes, path: str) -> str:
    """
    Args:
        content: of a ``.pt2`` file.
        path: of it, for messages.

    Returns:
        The metadata in it: JSON.

    Raises:
        InputError: the file is damaged, or holds what an exported student does not need.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _check(archive, path)
    except _UNREADABLE as error:
        raise InputError(f"{path}: not a readable .pt2 file ({type(error).__name__}); export it again") from error


def _check(archive: zipfile.ZipFile, path: str) -> str:
    root, _, _ = archive.namelist()[0].partition("/") if archive.namelist() else ("", "", "")
    names = [name.removeprefix(f"{root}/") for name in archive.namelist()]
    others = sorted({name for name in names if name not in _NEEDED and not _OTHERS.fullmatch(name)})
    missing = sorted(_NEEDED - {*names})
    if missing:
        raise InputError(
            f"{path}: was not written by tools/export_student.py (no {missing[0]}); give one that it wrote, "
            f"with PyTorch {KNOWN_PYTORCH} or newer"
        )
    if others or len({*names}) != len(names):
        raise _refused(path, f"the entry {others[0]}" if others else "an entry twice")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
        # PyTorch compresses nothing; a few kilobytes can be packed to hold more than fits into memory.
        raise _refused(path, "packed entries")
    read = {name: archive.read(f"{root}/{name}") for name in _NEEDED}
    if _INPUTS in names and archive.getinfo(f"{root}/{_INPUTS}").file_size:
        raise _refused(path, "pickled sample inputs")
    for config in (_WEIGHTS, _CONSTANTS):
        for name, tensor in json.loads(read[config])["config"].items():
            if tensor["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", tensor["path_name"]):
                raise _refused(path, f"{name}, a pickled object")
    graph = json.loads(read[_GRAPH])
    if graph["guards_code"]:
        raise _refused(path, "guards, which are code")
    for operator in _operators(graph):
        if not _OPERATOR.fullmatch(operator) or _NOT_OF_TENSORS.search(operator):
            raise _refused(path, f"the operator {operator[:80]}")
    symbols = [*_values(graph, "expr_str"), *graph["range_constraints"]]
    for expression in symbols:
        if not isinstance(expression, str) or not _EXPRESSION.fullmatch(expression):
            raise _refused(path, f"the expression {str(expression)[:80]}")
    return read[f"extra/{METADATA_FILE}"].decode("utf-8")


def _operators(graph: Any) -> Iterator[str]:
    """What the nodes call, those of graphs within graphs, too."""
    for part in _dicts(graph):
        if "target" in part and "inputs" in part:
            yield str(part["target"])


def _values(graph: Any, key: str) -> Iterator[Any]:
    return (part[key] for part in _dicts(graph) if key in part)


def _dicts(value: Any) -> Iterator[dict]:
    if isinstance(value, dict):
        yield value
        value = [*value.values()]
    if isinstance(value, list):
        for item in value:
            yield from _dicts(item)


def _refused(path: str, what: str) -> InputError:
    return InputError(f"{path}: has {what}, which an exported student has no need of; do not open it elsewhere either")
