"""Read pickles of unknown origin without running code: arrays, numbers, strings and plain containers.

Even PyTorch's restricted unpickler passes the description of an array to NumPy, which trusts it. A hostile pickle could
present bytes as an array of objects, whose elements are memory addresses. This module checks each description first.
"""

import math
import os
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from mlickd.errors import InputError

# NumPy's names of types of numbers and strings, such as "f4", "<i8" and "U12", and of objects.
_TYPE = re.compile(r"([<>|=]?)(b1|[iu][1248]|f[248]|[SU][1-9][0-9]{0,5}|O[48]?)")


def load_plain_pickle(path: str | os.PathLike[str]) -> Any:
    """Read a pickle of NumPy arrays and scalars, numbers, strings and plain containers.

    The pickle cannot import anything: this module replaces a few names with safe functions and refuses all others.
    NumPy scalars become Python numbers, an OrderedDict becomes a dict. Like Detectron2, it reads strings of Python 2 as
    Latin-1.

    Raises:
        InputError: the file is missing, is not a pickle, or contains an unknown name.
    """
    try:
        with open(path, "rb") as file:
            return _PlainUnpickler(file, encoding="latin1").load()
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); give the path of a pickle") from error
    except Exception as error:  # corrupt pickles raise many types of errors
        problem = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path}: is not a pickle of arrays and plain containers ({problem}); save it again with NumPy arrays, "
            "because other pickles could run code"
        ) from error


class _Function:
    """A function that a pickle can call but not change."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]):
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes a function")


class _Type:
    """A checked type of array elements. It replaces NumPy's dtype, whose content a pickle could change."""

    __slots__ = ("dtype",)

    def __init__(self, name: Any, *options: Any):
        match = _TYPE.fullmatch(name)
        if match is None:
            raise pickle.UnpicklingError(f"arrays of type {name!r:.60} are not supported")
        order, kind = match.groups()
        self.dtype = np.dtype(object) if kind.startswith("O") else np.dtype(order.replace("|", "") + kind)

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, subarray, names, fields, item size, alignment, flags)
        _, order, *structure = state[:5]
        if structure != [None, None, None]:
            raise pickle.UnpicklingError("arrays of arrays or of named fields are not supported")
        order = order.decode() if isinstance(order, bytes) else order
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)


class _Array(np.ndarray):
    """An array that checks its description and content before NumPy uses them."""

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        described = type(kind) is _Type and type(shape) is tuple and all(type(n) is int and n >= 0 for n in shape)
        if self.size or not described:
            raise pickle.UnpicklingError(f"an array of shape {shape!r:.60} has two descriptions, or an unknown one")
        dtype = kind.dtype
        if isinstance(data, str):  # from Python 2
            data = data.encode("latin1")
        length = math.prod(shape) * (1 if dtype.hasobject else dtype.itemsize)
        if type(data) not in ((list,) if dtype.hasobject else (bytes, bytearray)) or len(data) != length:
            raise pickle.UnpicklingError(f"an array of shape {shape!r:.60} has content of another length")
        if dtype.kind == "b":
            data = (np.frombuffer(data, np.uint8) != 0).tobytes()
        elif not dtype.hasobject:
            data = bytes(memoryview(data))  # a copy, because NumPy may keep data, and the pickle can change it
        super().__setstate__((1, shape, dtype, bool(fortran), data))


def _empty(*arguments: Any) -> _Array:
    """Replace NumPy's ``_reconstruct``. The pickle sets the state of the array afterwards."""
    return _Array(0)


def _array(shape: Any, kind: Any, data: Any, order: Any = "C") -> _Array:
    """Replace the constructor of NumPy's arrays."""
    array = _Array(0)
    array.__setstate__((1, shape, kind if isinstance(kind, _Type) else _Type(kind), order == "F", data))
    return array


def _frombuffer(data: Any, kind: Any, shape: Any, order: Any, axes: Any = None) -> np.ndarray:
    """Replace NumPy's function for pickle protocol 5. Recent versions of NumPy also give a permutation of the axes."""
    array = _array(shape, kind, data, order if axes is None else "C")
    return array if axes is None else array.transpose(axes)


def _encode(text: Any, encoding: Any = "utf-8") -> bytes:
    """Replace the function with which Python 3 stores bytes for Python 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8"):
        raise pickle.UnpicklingError(f"it encodes as {encoding!r:.60}")
    return text.encode(encoding)


def _bytes(data: Any = b"", *encoding: Any) -> bytes:
    # Python's constructor allocates n zeros for an integer n.
    return bytes(data) if isinstance(data, bytes | bytearray) and not encoding else _encode(data, *encoding)


# dict and set need no _Function, because a pickle cannot change built-in types.
_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): dict,
    ("builtins", "set"): set,
    ("builtins", "bytes"): _Function(_bytes),
    ("builtins", "bytearray"): _Function(lambda *arguments: bytearray(_bytes(*arguments))),
    ("_codecs", "encode"): _Function(_encode),
    ("numpy", "ndarray"): _Function(_array),
    ("numpy", "dtype"): _Function(_Type),
    ("detectron2.structures.boxes", "BoxMode"): _Function(lambda value: value),
}
for _core in ("numpy.core", "numpy._core"):
    _NAMES[f"{_core}.multiarray", "_reconstruct"] = _Function(_empty)
    _NAMES[f"{_core}.multiarray", "scalar"] = _Function(lambda kind, data: _array((), kind, data).item())
    _NAMES[f"{_core}.numeric", "_frombuffer"] = _Function(_frombuffer)


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return the replacement of a name, and refuse unknown names."""
        module = "builtins" if module == "__builtin__" else module  # Python 2 and old protocols
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _NAMES[module, name]
