"""Reading checkpoints, and refusing the ones that do not fit."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from detectron2.utils.file_io import PathManager
from torch import nn

from mlickd.errors import InputError, shorten_list
from mlickd.files import is_file, is_folder
from mlickd.safe_pickle import load_plain_pickle

__all__ = [
    "check_checkpoint",
    "check_fits",
    "describe_mismatch",
    "load_checkpoint",
    "read_checkpoint",
    "read_file",
    "require_file",
]

# Errors whose text helps.
_TELLING = (OSError, EOFError, ValueError)


def read_checkpoint(path: str, field: str, *, mapped: bool = False) -> dict[str, torch.Tensor]:
    """The parameters in a PyTorch checkpoint: its entry ``model`` if it has one, as Detectron2 writes it.

    Args:
        path: a file that ``torch.load`` reads with ``weights_only``, or a ``.pkl`` of Detectron2, of which arrays and
            plain containers are read, and no code; Detectron2's PathManager resolves it.
        field: the configuration key that named the file, for the message.
        mapped: leave the numbers in the file, where it allows that, until they are asked for; to look at it quickly.

    Raises:
        InputError: the file is missing, damaged, or holds anything but named tensors.
    """
    content = read_file(path, field, mapped=mapped)
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise InputError(f"{field} {path} holds no named parameters; give a checkpoint that train_net.py wrote")
    return content


def read_file(path: str, field: str, *, mapped: bool = False) -> object:
    """What a PyTorch file holds, whatever it is; no code in it is run.

    Args:
        path, field, mapped: as for :func:`read_checkpoint`.

    Raises:
        InputError: the file is missing or damaged, or would have to be unpickled.
    """
    require_file(path, field)
    try:
        local_path = PathManager.get_local_path(path)
        with open(local_path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old pickles, which are an error or read well
            if local_path.endswith(".pkl"):
                return _as_tensors(load_plain_pickle(local_path))
            mapped = mapped and zipfile.is_zipfile(local_path)
            return torch.load(local_path if mapped else file, map_location="cpu", weights_only=True, mmap=mapped)
    except InputError as error:
        raise InputError(f"{field} {error}") from error
    except pickle.UnpicklingError as error:  # PyTorch's text tells how to load it all the same
        raise InputError(
            f"{field} {path} is not a readable checkpoint: it is damaged, or holds objects that could run code; give "
            "one that train_net.py wrote"
        ) from error
    except Exception as error:  # what the bytes of a broken pickle make of themselves can fail in any way
        reason = str(error).split("\n")[0] if isinstance(error, _TELLING) else ""
        reason = reason or f"it is cut short or damaged ({type(error).__name__})"
        raise InputError(f"{field} {path} is not a readable checkpoint: {reason}; give a whole one") from error


def require_file(path: str, field: str, remedy: str = "train it first or give another path") -> None:
    """
    Args:
        path, field: as for :func:`read_checkpoint`.
        remedy: what to do where it is missing.

    Raises:
        InputError: there is no such file.
    """
    if is_folder(path, field):
        raise InputError(f"{field} {path}: is a folder; name the checkpoint in it, such as model_final.pth")
    if not is_file(path, field):
        raise InputError(f"{field} {path}: no such file; {remedy}")


def _as_tensors(content: Any) -> Any:
    """What a ``.pkl`` of Detectron2 holds, with tensors in place of arrays."""
    if isinstance(content, dict):
        return {key: _as_tensors(value) for key, value in content.items()}
    if isinstance(content, np.ndarray) and content.dtype.kind in "biuf":
        return torch.from_numpy(np.array(content, dtype=content.dtype.newbyteorder("=")))
    return content


def load_checkpoint(model: nn.Module, path: str, field: str) -> None:
    """Load a checkpoint of the whole of ``model``; nothing may be missing, left over or of another shape.

    Raises:
        InputError: the checkpoint does not fit; the message lists keys.
    """
    content = read_checkpoint(path, field)
    check_fits(model, content, field, path)
    model.load_state_dict(content)


def check_checkpoint(model: nn.Module, path: str, field: str) -> None:
    """Check that :func:`load_checkpoint` will do, from the names and shapes in the file alone where it allows that.

    Args:
        model: see :func:`mlickd.modeling.blueprint.model_blueprint`.
        path, field: as for :func:`read_checkpoint`.

    Raises:
        InputError: the file cannot be read, or does not fit.
    """
    check_fits(model, read_checkpoint(path, field, mapped=True), field, path)


def check_fits(model: nn.Module, content: dict[str, torch.Tensor], field: str, path: str) -> None:
    """Check that ``content``, read from ``path``, has every parameter of ``model`` and no other.

    Counts of batches that it lacks are put into it as they are in the model (in place): no layer of this project uses
    them, and frozen layers of Detectron2 have none.

    Raises:
        InputError: it does not; the message lists keys.
    """
    target = model.state_dict()
    for key in target.keys() - content.keys():
        if key.endswith(".num_batches_tracked"):
            content[key] = target[key]
    missing = target.keys() - content.keys()
    unexpected = content.keys() - target.keys()
    wrong_shape = {key for key in target.keys() & content.keys() if target[key].shape != content[key].shape}
    if missing or unexpected or wrong_shape:
        raise InputError(
            f"{field} {path} is not a checkpoint of this {type(model).__name__}: "
            f"{describe_mismatch(missing, unexpected, wrong_shape)}; give one of this configuration, or the "
            "configuration that it was trained with"
        )


def describe_mismatch(
    missing: Iterable[str] = (), unexpected: Iterable[str] = (), wrong_shape: Iterable[str] = ()
) -> str:
    """The keys by which a checkpoint differs from a model, in one line."""
    groups = {"missing": missing, "left over": unexpected, "of another shape": wrong_shape}
    return "; ".join(f"{name}: {shorten_list(sorted(keys), 3)}" for name, keys in groups.items() if keys)
