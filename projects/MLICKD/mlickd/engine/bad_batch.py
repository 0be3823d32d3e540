"""A batch on disk, with everything that a model was given of it, to look into why training broke on it."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import numpy as np
import torch
from detectron2.structures import Boxes, Instances

from mlickd.files import whole_file

__all__ = ["save_batch"]


def save_batch(path: str, samples: list[dict], **facts: object) -> None:
    """Write samples as ``torch.load(path, weights_only=True)`` reads them: tensors, numbers, texts, lists and dicts.

    Args:
        path: of the file; one that is there is replaced.
        samples: as a model takes them. Under ``images`` each is a dict of the same keys, with boxes (R, 4) instead of
            Detectron2's structures, and with the fields of views and knowledge under their names.
        facts: further entries beside ``images``.

    Raises:
        InputError: it cannot be written; nothing is left of it then.
    """
    with whole_file(path, "the run has stopped all the same") as file:
        torch.save({**_plain(facts), "images": _plain(samples)}, file)


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
