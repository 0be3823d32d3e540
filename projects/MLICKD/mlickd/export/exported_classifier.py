"""Use an exported student with ONNX Runtime. This module does not import PyTorch or Detectron2."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image, ImageOps

from mlickd.errors import InputError
from mlickd.image_files import open_image_file

from .metadata import ExportMetadata

__all__ = ["ExportedClassifier", "import_optional", "load_exported", "read_photo", "resize_photo"]

# Rounding errors put scores outside of 0..1 by less than this.
_ROUNDING = 1e-4
# Type of the input of the graph, with preprocessing and without.
_INPUT_TYPES = {True: "tensor(uint8)", False: "tensor(float)"}


@dataclass(frozen=True)
class ExportedClassifier:
    """A student in an exported file.

    Attributes:
        path: path of the file, for messages.
        metadata: metadata in the file.
        run: network, from the result of :meth:`ExportMetadata.network_input` to (N, C) float32 scores.
    """

    path: str
    metadata: ExportMetadata
    run: Callable[[np.ndarray], np.ndarray]

    @property
    def class_names(self) -> tuple[str, ...]:
        """C names, in the order of the scores."""
        return self.metadata.class_names

    @property
    def thresholds(self) -> np.ndarray:
        """(C,) float32; a class is predicted if ``score >= threshold``."""
        return np.array(self.metadata.thresholds, dtype=np.float32)

    def scores(self, images: Sequence[np.ndarray], batch_size: int = 16) -> np.ndarray:
        """Return the scores of images of any size.

        Args:
            images: N arrays (H, W, 3) uint8 RGB, upright; Pillow warps each to the size of the network.
            batch_size: number of images that go through the network at once.

        Returns:
            (N, C) float32 probabilities.

        Raises:
            InputError: an image has another shape or type, or the file does not return probabilities.
        """
        for number, image in enumerate(images):
            shape = getattr(image, "shape", ())
            if len(shape) != 3 or shape[2] != 3 or not all(shape) or image.dtype != np.uint8:
                raise InputError(f"image {number} of {len(images)}: give an array (H, W, 3) of uint8 in RGB")
        parts = [np.empty((0, len(self.class_names)), dtype=np.float32)]
        for start in range(0, len(images), batch_size):
            batch = [resize_photo(image, self.metadata.input_size) for image in images[start : start + batch_size]]
            parts.append(self.scores_of_views(np.stack(batch)))
        return np.concatenate(parts)

    def scores_of_views(self, views: np.ndarray) -> np.ndarray:
        """Return the (N, C) float32 probabilities of (N, S, S, 3) uint8 RGB images; S is ``metadata.input_size``.

        Raises:
            InputError: the file does not return probabilities.
        """
        scores = self.run(self.metadata.network_input(views))
        if not ((scores >= -_ROUNDING) & (scores <= 1 + _ROUNDING)).all():
            raise InputError(f"{self.path}: its scores are not probabilities; export it again")
        return scores.astype(np.float32, copy=False).clip(0, 1)


def load_exported(path: str | os.PathLike[str]) -> ExportedClassifier:
    """Open a file that ``tools/export_student.py`` wrote. ONNX Runtime runs it; the file contains no code.

    Raises:
        InputError: the file is missing or damaged, or is not an exported student; ONNX Runtime is not installed.
    """
    name = os.fspath(path)
    onnxruntime = import_optional("onnxruntime", "an .onnx file")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised, so that no log is needed
    try:
        # From its bytes, so that the file cannot refer to other files.
        content = Path(name).read_bytes()
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime does not export the classes of its errors
        raise InputError(
            f"{name}: not an ONNX file that can be run ({_first_line(error)}); write it with tools/export_student.py"
        ) from error
    metadata = ExportMetadata.from_properties(session.get_modelmeta().custom_metadata_map, name)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    found = [(value.name, value.type, tuple(value.shape[1:])) for value in (*inputs, *outputs)]
    expected = [
        (metadata.input_name, _INPUT_TYPES[metadata.preprocessing], metadata.input_shape(1)[1:]),
        ("scores", "tensor(float)", (len(metadata.class_names),)),
    ]
    if found != expected:
        raise InputError(f"{name}: its graph has {found}, its metadata {expected}; export it again")

    def run(images: np.ndarray) -> np.ndarray:
        try:
            return session.run(["scores"], {metadata.input_name: images})[0]
        except Exception as error:
            raise InputError(f"{name}: fails in ONNX Runtime ({_first_line(error)}); export it again") from error

    return ExportedClassifier(name, metadata, run)


def read_photo(path: str | os.PathLike[str], side: int) -> np.ndarray:
    """Read a photo with Pillow only, as a program without this project does, and warp it to a square.

    The project itself decodes with simplejpeg and resizes with PyTorch (:mod:`mlickd.data.views`), which is
    faster; the pixels differ by rounding. Like the project, this function decodes a JPEG of at least twice that size at
    1/2, 1/4 or 1/8 of its size. Unlike the project, it does not put transparent pixels on white or scale 16-bit gray.

    Args:
        path: path of the file.
        side: side of the square, in pixels.

    Returns:
        (side, side, 3) uint8 RGB, upright.

    Raises:
        InputError: the file is missing, or cannot be read as an image.
    """
    with open_image_file(path) as image:
        box = (image.draft("RGB", (side, side)) or (None, None))[1]
        pixels = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR, box=box)
        return np.array(ImageOps.exif_transpose(pixels))


def resize_photo(image: np.ndarray, side: int) -> np.ndarray:
    """Warp an (H, W, 3) uint8 RGB array to (side, side, 3)."""
    if image.shape[:2] == (side, side):
        return image
    return np.array(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))


def import_optional(name: str, purpose: str) -> ModuleType:
    """Import a package of the extra ``export`` for a purpose that an error message names.

    Raises:
        InputError: the package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{purpose} needs the package {name}; install it with `pip install 'mlickd[export]'`"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
