"""A batch on disk, with everything that a model was given of it, to look into why training broke on it."""

from __future__ import annotations

import os
from dataclasses import fields, is_dataclass

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.file_io import PathManager

__all__ = ["save_batch"]


def save_batch(path: str, samples: list[dict], **facts: object) -> None:
    """Write samples as ``torch.load(path, weights_only=True)`` reads them: tensors, numbers, texts, lists and dicts.

    Args:
        path: of the file; one that is there is replaced.
        samples: as a model takes them. Under ``images`` each is a dict of the same keys, with boxes (R, 4) instead of
            Detectron2's structures, and with the fields of views and knowledge under their names.
        facts: further entries beside ``images``.

    Raises:
        OSError: it cannot be written; nothing is left of it then.
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with PathManager.open(temporary, "wb") as file:
            torch.save({**_plain(facts), "images": _plain(samples)}, file)
        os.replace(temporary, path)
    except RuntimeError as error:  # of torch, on a full disk
        raise OSError(f"{path}: {str(error).splitlines()[0]}") from error
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def _plain(value: object) -> object:
    """The same in types that need no pickled class."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, Boxes):
        return _plain(value.tensor)
    if isinstance(value, Instances):
        return {"image_size": tuple(value.image_size), **_plain(value.get_fields())}
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(entry) for entry in value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
