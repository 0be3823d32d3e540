"""Pickles that may come from anywhere: arrays, numbers, texts and plain containers are read, and nothing else runs."""

from __future__ import annotations

import collections
import math
import os
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from mlickd.errors import InputError

__all__ = ["load_plain_pickle"]

# What NumPy calls a type of plain numbers or texts: "f4", "<i8", "U12"; and of objects, "O8" or "O".
_PLAIN_TYPE = re.compile(r"([<>|=]?)(b1|[iu][1248]|f[248]|[SU][1-9][0-9]{0,5})")
_OBJECT_TYPE = re.compile(r"\|?O[48]?")
_ATOMS = (type(None), bool, int, float, complex, str, bytes, bytearray)


def load_plain_pickle(path: str | os.PathLike[str]) -> Any:
    """What a pickle holds, where that is NumPy arrays and scalars, numbers, texts and plain containers.

    Nothing that it names is imported, and NumPy never sees what it says of arrays before that is checked, so a pickle
    from a stranger can neither run code nor reach into memory. NumPy's scalars are read as Python's, an OrderedDict as
    a dict, and texts of Python 2 as Latin-1, as Detectron2 does.

    Raises:
        InputError: the file is missing, is no pickle, or holds anything else.
    """
    try:
        with open(path, "rb") as file:
            return _plain(_PlainUnpickler(file, encoding="latin1").load(), {})
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); give the path of a pickle") from error
    except Exception as error:  # what the bytes of a broken pickle make of themselves can fail in any way
        problem = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path}: not a pickle of arrays and plain containers ({problem}); nothing else is read, because a pickle "
            "can run code: save it again with NumPy arrays"
        ) from error


class _Stand:
    """Stands in for what a pickle names or builds, which can change it by our own rules alone, and not hash it."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes what it must not")


class _Function(_Stand):
    """One of the functions below, under the name that the pickle has for it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]):
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)


class _Type(_Stand):
    """A type of elements: numbers, texts, or objects that stand one by one in a list."""

    __slots__ = ("dtype",)

    def __init__(self, name: Any, *options: Any):
        if isinstance(name, str) and (match := _PLAIN_TYPE.fullmatch(name)):
            order, kind = match.groups()
            self.dtype = np.dtype((order if order in ("<", ">") else "=") + kind)
        elif isinstance(name, str) and _OBJECT_TYPE.fullmatch(name):
            self.dtype = np.dtype(object)
        else:
            raise pickle.UnpicklingError(f"arrays of type {name!r:.60} are not read")

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, subarray, names, fields, item size, alignment, flags)
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("arrays of arrays or of named fields are not read")
        if state[1] in ("<", ">", b"<", b">"):
            self.dtype = self.dtype.newbyteorder(state[1] if isinstance(state[1], str) else state[1].decode())


class _Array(_Stand):
    """An array that a pickle describes."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[dict], np.ndarray] | None = None):
        self._make = make

    def __setstate__(self, state: Any) -> None:
        if self._make is not None or not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("an array is described in an unknown way")
        _, shape, dtype, fortran, data = state
        self._make = _described(shape, dtype, data, "F" if fortran else "C")

    def array(self, done: dict) -> np.ndarray:
        if self._make is None:
            raise pickle.UnpicklingError("an array has no content")
        return self._make(done)


def _described(shape: Any, dtype: Any, data: Any, order: Any) -> Callable[[dict], np.ndarray]:
    """How to make an array of checked shape and content, which may still hold stand-ins where it holds objects."""
    if not isinstance(dtype, _Type) or order not in ("C", "F"):
        raise pickle.UnpicklingError("an array is described in an unknown way")
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise pickle.UnpicklingError(f"an array has the shape {shape!r:.60}")
    if dtype.dtype.hasobject:
        # Never from bytes: these would be taken as addresses.
        if type(data) is not list or len(data) != math.prod(shape):
            raise pickle.UnpicklingError("an array of objects has no list of as many objects as its shape says")

        def objects(done: dict) -> np.ndarray:
            flat = np.empty(len(data), dtype=object)
            for index, value in enumerate(data):
                flat[index] = _plain(value, done)
            return flat.reshape(shape, order=order)

        return objects
    array = _numbers(shape, dtype, data, order)
    return lambda done: array


def _numbers(shape: tuple[int, ...], dtype: _Type, data: Any, order: str = "C") -> np.ndarray:
    """A writable array of plain elements from its bytes, of which there must be as many as its shape says."""
    if isinstance(data, str):  # of Python 2
        data = data.encode("latin1")
    if not isinstance(data, bytes | bytearray) or dtype.dtype.hasobject:
        raise pickle.UnpicklingError("an array has no bytes as its content")
    if math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise pickle.UnpicklingError(f"an array has {len(data)} bytes, which is not what its shape {shape!r:.60} needs")
    array = np.frombuffer(data, dtype.dtype) if data else np.empty(0, dtype.dtype)
    if dtype.dtype.kind == "b":
        array = np.frombuffer(data, np.uint8) != 0
    elif dtype.dtype.kind == "U" and data:
        points = np.frombuffer(data, np.dtype(np.uint32).newbyteorder(dtype.dtype.byteorder))
        if points.max() > 0x10FFFF:
            raise pickle.UnpicklingError("a text has a character that does not exist")
    # The bytes are read-only, or belong to the file's bytearray.
    return array.reshape(shape, order=order).copy(order="K")


def _ndarray(shape: Any, dtype: Any, data: Any) -> _Array:
    """NumPy's public constructor, by which `write_detectron2_pickle` writes arrays."""
    return _Array(_described(shape, _Type(dtype) if isinstance(dtype, str) else dtype, data, "C"))


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> _Array:
    """Of protocol 5. The newest NumPy has axes, too, which it puts into another order afterwards."""
    if axes is None:
        return _Array(_described(shape, dtype, data, order))
    make = _described(shape, dtype, data, "C")
    return _Array(lambda done: make(done).transpose(axes))


def _scalar(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, _Type):
        raise pickle.UnpicklingError("a number has no type")
    return _numbers((), dtype, data).item()


def _encode(text: Any, encoding: Any = "utf-8") -> bytes:
    """How Python 3 writes bytes for Python 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8"):
        raise pickle.UnpicklingError(f"it wants to encode as {encoding!r:.60}")
    return text.encode(encoding)


def _bytes(data: Any = b"", *encoding: Any) -> bytes:
    # Of a number they would be as many zeros.
    return bytes(data) if isinstance(data, bytes | bytearray) and not encoding else _encode(data, *encoding)


def _bytearray(data: Any = b"", *encoding: Any) -> bytearray:
    return bytearray(_bytes(data, *encoding))


def _enumeration(value: Any) -> int:
    """An enumeration of ints, read as the int that it is."""
    if type(value) is not int:
        raise pickle.UnpicklingError("a box mode is no number")
    return value


_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _Type,
    ("builtins", "bytearray"): _bytearray,
    ("builtins", "bytes"): _bytes,
    ("_codecs", "encode"): _encode,
    ("detectron2.structures.boxes", "BoxMode"): _enumeration,
}
for _core in ("numpy.core", "numpy._core"):
    _NAMES[f"{_core}.multiarray", "_reconstruct"] = lambda kind, shape, code: _Array()
    _NAMES[f"{_core}.multiarray", "scalar"] = _scalar
    _NAMES[f"{_core}.numeric", "_frombuffer"] = _frombuffer
# Types of C, which no pickle can change.
_CONTAINERS = {("collections", "OrderedDict"): collections.OrderedDict, ("builtins", "set"): set}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Our own function for a name that a plain pickle may use; UnpicklingError for every other name."""
        module = "builtins" if module == "__builtin__" else module  # of Python 2, and of old protocols
        if (module, name) in _CONTAINERS:
            return _CONTAINERS[module, name]
        if (module, name) in _NAMES:
            return _Function(_NAMES[module, name])
        raise pickle.UnpicklingError(f"it wants {module}.{name}")


def _plain(value: Any, done: dict[int, tuple[Any, Any]]) -> Any:
    """A value with arrays for their stand-ins.

    Args:
        value: that an unpickler has made.
        done: values that have been seen, and what became of them, by `id`. A value is kept: its id stays its own.
    """
    kind = type(value)
    if kind in _ATOMS:
        return value
    if id(value) in done:
        return done[id(value)][1]
    plain: Any
    if kind is list:
        done[id(value)] = value, value
        value[:] = [_plain(item, done) for item in value]
        return value
    if kind is dict or kind is collections.OrderedDict:
        plain = {}
        done[id(value)] = value, plain
        # Not value.items(): a pickle can hide this method of an OrderedDict.
        plain.update((_plain(key, done), _plain(item, done)) for key, item in kind.items(value))
        return plain
    if kind is _Array:
        plain = value.array(done)
    elif kind in (tuple, set, frozenset):
        plain = kind(_plain(item, done) for item in value)
    else:
        raise pickle.UnpicklingError(f"it holds a {kind.__name__.strip('_').lower()}")
    done[id(value)] = value, plain
    return plain
