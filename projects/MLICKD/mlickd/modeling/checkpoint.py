"""Checkpoints are read without running code, and they fit the model completely or are refused."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.file_io import PathManager
from torch import nn

from mlickd.errors import InputError, shorten_list
from mlickd.files import require_file
from mlickd.safe_pickle import load_plain_pickle

__all__ = [
    "check_checkpoint",
    "check_fits",
    "describe_mismatch",
    "load_checkpoint",
    "model_blueprint",
    "read_checkpoint",
    "read_file",
]


def read_checkpoint(path: str, field: str, *, mapped: bool = False) -> dict[str, torch.Tensor]:
    """Read the parameters of a PyTorch checkpoint: its entry ``model``, as Detectron2 writes it, or the whole file.

    Args:
        path: file that ``torch.load`` reads with ``weights_only``, or a ``.pkl`` of Detectron2 with arrays; it may be
            a name that Detectron2's PathManager resolves.
        field: configuration key that named the file, for the message.
        mapped: map the file into memory if its format allows that. Names and shapes are then read without the numbers.

    Raises:
        InputError: the file is missing or damaged, holds code, or holds anything but named tensors.
    """
    content = read_file(path, field, mapped=mapped)
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise InputError(f"{field} {path} has no named parameters; give a checkpoint that train_net.py wrote")
    return content


def read_file(path: str, field: str, *, mapped: bool = False) -> object:
    """Return the content of a PyTorch file without running code. Args and errors as for :func:`read_checkpoint`."""
    require_file(path, field, "train it first, or give another path")
    try:
        local_path = PathManager.get_local_path(path)
        if local_path.endswith(".pkl"):
            return _arrays_to_tensors(load_plain_pickle(local_path))
        mapped = mapped and zipfile.is_zipfile(local_path)
        with open(local_path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the format of old files
            return torch.load(local_path if mapped else file, map_location="cpu", weights_only=True, mmap=mapped)
    except InputError as error:
        raise InputError(f"{field} {error}") from error
    except Exception as error:  # reading a damaged pickle can raise anything, with texts that do not help
        reason = str(error) if isinstance(error, OSError) else "it is damaged, or holds objects that could run code"
        raise InputError(f"{field} {path} is not a readable checkpoint: {reason}; give a complete one") from error


def _arrays_to_tensors(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _arrays_to_tensors(value) for key, value in content.items()}
    if isinstance(content, np.ndarray) and content.dtype.kind in "biuf":
        return torch.from_numpy(np.array(content, dtype=content.dtype.newbyteorder("=")))
    return content


def load_checkpoint(model: nn.Module, path: str, field: str) -> None:
    """Load a checkpoint into the whole of ``model``.

    Raises:
        InputError: a parameter is missing, left over or of another shape; the message lists keys.
    """
    content = read_checkpoint(path, field)
    check_fits(model, content, field, path)
    model.load_state_dict(content)


def check_checkpoint(model: nn.Module, path: str, field: str) -> None:
    """Check that :func:`load_checkpoint` will succeed, from names and shapes.

    ``model`` may be a :func:`model_blueprint`. Arguments and errors are those of :func:`load_checkpoint`.
    """
    check_fits(model, read_checkpoint(path, field, mapped=True), field, path)


def check_fits(model: nn.Module, content: dict[str, torch.Tensor], field: str, path: str) -> None:
    """Check that ``content``, read from ``path``, has every parameter of ``model`` and no other.

    If it lacks the batch counters of batch normalization, those of the model are added to it (in place): no layer of
    this project uses them, and frozen layers of Detectron2 do not have them.

    Raises:
        InputError: it does not fit; the message lists keys.
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
    """Return one line with the keys in which a checkpoint and a model differ."""
    groups = {"missing": missing, "left over": unexpected, "of another shape": wrong_shape}
    return "; ".join(f"{name}: {shorten_list(sorted(keys), 3)}" for name, keys in groups.items() if keys)


def model_blueprint(cfg: CfgNode, *arguments: CfgNode) -> nn.Module:
    """Build a model on PyTorch's ``meta`` device: with names and shapes of parameters, but without numbers.

    Args:
        cfg: complete configuration.
        arguments: further arguments of the model's class, such as the teacher's configuration.

    Raises:
        InputError: the model cannot be built.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "meta"
    cfg.MODEL.TIMM.PRETRAINED = False  # downloads nothing
    model_class = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    try:
        with torch.device("meta"):
            return model_class(cfg, *arguments)
    except (NotImplementedError, RuntimeError):
        # A backbone from outside this project may need numbers while it is built.
        cfg.MODEL.DEVICE = "cpu"
        with torch.random.fork_rng(devices=[]):
            return model_class(cfg, *arguments)
