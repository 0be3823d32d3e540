"""Reading an exported ``.pt2`` file with PyTorch."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable

import numpy as np

from mlickd.errors import InputError

from .metadata import ExportMetadata
from .optional import import_optional
from .pt2_archive import KNOWN_PYTORCH, check_pt2

__all__ = ["open_pt2"]


def open_pt2(content: bytes, path: str) -> tuple[ExportMetadata, Callable[[np.ndarray], np.ndarray]]:
    """
    Args:
        content: of the file.
        path: of it, for messages.

    Returns:
        Its metadata, and the network: from (N, ...) input to (N, C) float32 scores.

    Raises:
        InputError: the file is damaged, not an exported student, or holds more than one.
    """
    properties = _properties(check_pt2(content, path))
    torch = import_optional("torch", "a .pt2 file")
    metadata = ExportMetadata.from_properties(properties, path)
    logger = logging.getLogger("torch.export")
    level = logger.level
    try:
        logger.setLevel(logging.CRITICAL)  # what is wrong comes as an error
        network = torch.export.load(io.BytesIO(content)).module()
    except Exception as error:  # of many classes, by what is damaged
        raise InputError(
            f"{path}: not a .pt2 file that PyTorch {torch.__version__} can read ({_first_line(error)}); export it "
            f"again, or install PyTorch {KNOWN_PYTORCH}, the least version known to work"
        ) from error
    finally:
        logger.setLevel(level)

    def run(images: np.ndarray) -> np.ndarray:
        try:
            with torch.inference_mode():
                return network(torch.from_numpy(images)).numpy()
        except Exception as error:
            raise InputError(f"{path}: fails in PyTorch ({_first_line(error)}); export it again") from error

    for count in (1, 2):  # the metadata must be of this graph
        shape = metadata.input_shape(count)
        scores = run(np.zeros(shape, dtype=np.uint8 if metadata.preprocessing else np.float32))
        if scores.shape != (count, len(metadata.class_names)):
            raise InputError(
                f"{path}: gives scores {scores.shape} for an input {shape}, its metadata says "
                f"{len(metadata.class_names)} classes; export it again"
            )
    return metadata, run


def _properties(text: str) -> dict[str, str]:
    """Of the metadata's JSON; empty where it is none."""
    try:
        properties = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(properties, dict) or not all(isinstance(value, str) for value in properties.values()):
        return {}
    return properties


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]
