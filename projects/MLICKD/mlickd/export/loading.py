"""Using an exported file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mlickd.errors import InputError

from .metadata import ExportMetadata
from .photos import resize_photo

__all__ = ["ExportedClassifier", "load_exported"]

# Scores may leave 0..1 by rounding, but not by more than this.
_ROUNDING = 1e-4


class ExportedClassifier:
    """A student in an exported file.

    Attributes:
        metadata: of the file.
    """

    def __init__(self, path: str, metadata: ExportMetadata, run: Callable[[np.ndarray], np.ndarray]):
        """
        Args:
            path: of the file, for messages.
            metadata: of it.
            run: from what :meth:`ExportMetadata.network_input` gives to (N, C) float32 scores.
        """
        self.path = path
        self.metadata = metadata
        self._run = run

    @property
    def class_names(self) -> tuple[str, ...]:
        """C names, in the order of the scores."""
        return self.metadata.class_names

    @property
    def thresholds(self) -> np.ndarray:
        """(C,) float32; a class is predicted where ``score >= threshold``."""
        return np.array(self.metadata.thresholds, dtype=np.float32)

    @property
    def input_size(self) -> int:
        """Side of the square that the network sees, in pixels."""
        return self.metadata.input_size

    def scores(self, images: Sequence[np.ndarray], batch_size: int = 16) -> np.ndarray:
        """
        Args:
            images: N arrays (H, W, 3) uint8 RGB of any sizes, upright; Pillow warps each to the network's size.
            batch_size: how many go through the network at once.

        Returns:
            (N, C) float32 probabilities.

        Raises:
            InputError: an image is of another shape or type, or the file gives no probabilities.
        """
        for number, image in enumerate(images):
            shape = getattr(image, "shape", ())
            if len(shape) != 3 or shape[2] != 3 or not all(shape) or image.dtype != np.uint8:
                raise InputError(
                    f"image {number} of {len(images)}: has shape {tuple(shape)} and type "
                    f"{getattr(image, 'dtype', type(image).__name__)}; give arrays (H, W, 3) of uint8 in RGB"
                )
        parts = [np.empty((0, len(self.class_names)), dtype=np.float32)]
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            parts.append(self.scores_of_views(np.stack([resize_photo(image, self.input_size) for image in batch])))
        return np.concatenate(parts)

    def scores_of_views(self, views: np.ndarray) -> np.ndarray:
        """The scores of photos that have the network's size already, in one batch.

        Args:
            views: (N, S, S, 3) uint8 RGB, N at least 1, S the :attr:`input_size`.

        Returns:
            (N, C) float32 probabilities.

        Raises:
            InputError: the file gives no probabilities.
        """
        scores = self._run(self.metadata.network_input(views))
        shape = len(views), len(self.class_names)
        if scores.shape != shape or not ((scores >= -_ROUNDING) & (scores <= 1 + _ROUNDING)).all():
            raise InputError(
                f"{self.path}: gave an array {scores.shape} that is not the probabilities {shape} of its classes; "
                "export it again with tools/export_student.py"
            )
        return scores.astype(np.float32, copy=False).clip(0, 1)


def load_exported(path: str | os.PathLike[str], threads: int | None = None) -> ExportedClassifier:
    """Open what ``tools/export_student.py`` wrote.

    An ``.onnx`` file is data: ONNX Runtime runs it, and PyTorch is not imported. PyTorch reads a ``.pt2`` file by
    importing, unpickling and evaluating what the file names; everything of that kind that an exported student does not
    need is refused before (:mod:`mlickd.export.pt2_archive`). Still, take a ``.pt2`` only from those whose programs you
    would run, too.

    Args:
        path: with the ending ``.onnx`` or ``.pt2``.
        threads: of ONNX Runtime; None leaves them to it. A ``.pt2`` has PyTorch's.

    Raises:
        InputError: the file is missing, damaged, or not such a file; its graph is not what its metadata says; or a
            package is missing.
    """
    name = os.fspath(path)
    suffix = Path(name).suffix.lower()
    if suffix not in (".onnx", ".pt2"):
        raise InputError(f"{name}: an exported student ends in .onnx or .pt2; name such a file")
    try:
        content = Path(name).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{name}: no such file; write it with tools/export_student.py") from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror}); make it readable") from error
    if suffix == ".onnx":
        from .onnx_runtime import open_onnx

        return ExportedClassifier(name, *open_onnx(content, name, threads))
    from .pt2_program import open_pt2

    return ExportedClassifier(name, *open_pt2(content, name))
