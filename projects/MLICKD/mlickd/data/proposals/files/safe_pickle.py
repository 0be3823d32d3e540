"""Pickles that may come from anywhere: arrays, numbers, texts and plain containers are read, and nothing else runs."""

from __future__ import annotations

import collections
import os
import pickle
from typing import Any

import numpy as np

from mlickd.errors import InputError

__all__ = ["load_plain_pickle"]

# None of these can be changed from within a pickle: they are types of C or NumPy's own C functions.
_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("builtins", "bytearray"): bytearray,
    ("builtins", "bytes"): bytes,
    ("builtins", "set"): set,
    # An enumeration of ints, read as the int that it is.
    ("detectron2.structures.boxes", "BoxMode"): int,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ALLOWED[_module, "_reconstruct"] = np.ndarray((0,), "u1").__reduce__()[0]
    _ALLOWED[_module, "scalar"] = np.float64(0).__reduce__()[0]


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = "builtins" if module == "__builtin__" else module  # of Python 2, and of old protocols
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        # Made anew for each pickle, which could set attributes of a Python function that outlives it.
        if (module, name) == ("_codecs", "encode"):
            return lambda text, encoding="utf-8": _encode(text, encoding)
        if name == "_frombuffer" and module in ("numpy.core.numeric", "numpy._core.numeric"):
            return lambda buffer, dtype, shape, order: np.frombuffer(buffer, dtype).reshape(shape, order=order)
        raise pickle.UnpicklingError(f"it wants {module}.{name}")


def load_plain_pickle(path: str | os.PathLike[str]) -> Any:
    """What a pickle holds, where that is NumPy arrays and scalars, numbers, texts and plain containers.

    Nothing that it names is imported, so a pickle from a stranger cannot run code. Texts of Python 2 are read as
    Latin-1, as Detectron2 does.

    Raises:
        InputError: the file is missing, is no pickle, or holds anything else.
    """
    try:
        with open(path, "rb") as file:
            return _PlainUnpickler(file, encoding="latin1").load()
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); give the path of a pickle") from error
    except Exception as error:  # what the bytes of a broken pickle make of themselves can fail in any way
        problem = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path}: not a pickle of arrays and plain containers ({problem}); nothing else is read, because a pickle "
            "can run code: save it again with NumPy arrays"
        ) from error


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes for Python 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "utf-8"):
        raise pickle.UnpicklingError(f"it wants to encode as {encoding!r}")
    return text.encode(encoding)
