"""Read checkpoints without running code, and check that they have exactly the parameters of a model."""

import warnings
import zipfile
from typing import Any

import numpy as np
import safetensors.torch
import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from mlickd.errors import InputError, shorten_list
from mlickd.files import require_file
from mlickd.safe_pickle import load_plain_pickle


def read_checkpoint(path: str, field: str, *, mmap: bool = False) -> dict[str, torch.Tensor]:
    """Read the parameters from a checkpoint: its entry ``model`` if it has one, or the whole file.

    Args:
        path: a file that ``torch.load`` reads with ``weights_only``, a ``.safetensors`` file, or Detectron2's ``.pkl``
            file of arrays.
        field: configuration key or option that holds the path; error messages name it.
        mmap: whether to map the file into memory if its format allows that. A check of names and shapes then does not
            read the values.

    Raises:
        InputError: the file is missing or corrupt, contains code, or contains anything other than named tensors.
    """
    content = read_file(path, field, mmap=mmap)
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise InputError(f"{field} {path} contains no named parameters; give a file of weights")
    return content


def read_file(path: str, field: str, *, mmap: bool = False) -> object:
    """Return the content of a file without running code. For arguments and errors see :func:`read_checkpoint`."""
    require_file(path, field, "correct the path")
    try:
        if path.endswith(".pkl"):
            return _arrays_to_tensors(load_plain_pickle(path))
        if path.endswith(".safetensors"):
            return safetensors.torch.load_file(path)
        mmap = mmap and zipfile.is_zipfile(path)
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns about the format of old files
            return torch.load(path if mmap else file, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # a corrupt file can raise any error, mostly with an unclear message
        helpful = isinstance(error, InputError | OSError)
        reason = error if helpful else "it is corrupt, or contains objects that could run code"
        raise InputError(f"{field} {path} is not a readable checkpoint: {reason}; give a complete one") from error


def _arrays_to_tensors(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _arrays_to_tensors(value) for key, value in content.items()}
    if isinstance(content, np.ndarray) and content.dtype.kind in "biuf":
        return torch.from_numpy(np.array(content, dtype=content.dtype.newbyteorder("=")))
    return content


def load_checkpoint(model: nn.Module, path: str, field: str) -> None:
    """Load all parameters of a model from a checkpoint. See :func:`read_checkpoint` and :func:`check_fits`."""
    content = read_checkpoint(path, field)
    check_fits(model, content, field, path)
    model.load_state_dict(content)


def check_checkpoint(model: nn.Module, path: str, field: str) -> None:
    """Check that :func:`load_checkpoint` can load a checkpoint into a model or its :func:`model_blueprint`."""
    check_fits(model, read_checkpoint(path, field, mmap=True), field, path)


def check_fits(model: nn.Module, content: dict[str, torch.Tensor], field: str, path: str) -> None:
    """Check that ``content``, read from ``path``, has exactly the parameters of ``model``.

    Missing ``num_batches_tracked`` counters of batch normalization are added to ``content`` in place: no layer of this
    project uses them, and frozen layers of Detectron2 do not have them.

    Raises:
        InputError: a parameter is missing, unexpected or of another shape; the message lists keys.
    """
    target = model.state_dict()
    for key in target.keys() - content.keys():
        if key.endswith("num_batches_tracked"):
            content[key] = target[key]
    differences = {
        "missing": target.keys() - content.keys(),
        "unexpected": content.keys() - target.keys(),
        "of another shape": {k for k in target.keys() & content.keys() if target[k].shape != content[k].shape},
    }
    problems = [f"{name}: {shorten_list(sorted(keys), 3)}" for name, keys in differences.items() if keys]
    if problems:
        raise InputError(
            f"{field} {path} does not fit {type(model).__name__}: {'; '.join(problems)}; give weights of this "
            "network, or configure the network that the weights belong to"
        )


def model_blueprint(cfg: CfgNode) -> nn.Module:
    """Build a model on PyTorch's ``meta`` device. Its parameters have names and shapes, but no values.

    Args:
        cfg: complete configuration.

    Raises:
        InputError: the model cannot be built from these values.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "meta"
    cfg.MODEL.TIMM.PRETRAINED = False  # prevents a download
    model_class = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    try:
        try:
            with torch.device("meta"):
                return model_class(cfg)
        except RuntimeError:
            # A custom backbone may compute with its parameters while it is built.
            cfg.MODEL.DEVICE = "cpu"
            with torch.random.fork_rng(devices=[]):
                return model_class(cfg)
    except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        names = [cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.BACKBONE.NAME]
        if model_class.is_detector:
            names += [cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_BOX_HEAD.NAME]
        raise InputError(
            f"MODEL: the model of {', '.join(names)} cannot be built ({error!r}); correct the keys of these parts, or "
            "add --debug to see the place"
        ) from error
