"""An exported student: its metadata, and ONNX Runtime to run it. This module does not import PyTorch or Detectron2."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np

from mlickd.errors import InputError
from mlickd.files import require_file

FORMAT = "mlickd classifier"
_LARGEST_INPUT = 8192  # pixels; a damaged file must not take all memory
_RESIZE = (
    "the whole photo, upright according to its EXIF orientation, warped to input_size x input_size pixels; Pillow: "
    "box = (image.draft('RGB', (input_size, input_size)) or (None, None))[1], then "
    "image.convert('RGB').resize((input_size, input_size), Image.Resampling.BILINEAR, box=box), then "
    "ImageOps.exif_transpose(image)"
)


@dataclass(frozen=True)
class ExportMetadata:
    """The metadata in an exported file. A program needs nothing else to use the file.

    Attributes:
        class_names: C names, in the order of the scores.
        thresholds: C numbers in 0..1; a class is predicted if ``score >= threshold``.
        thresholds_from: source of the thresholds, in words.
        input_size: side of the square input of the network, in pixels.
        provenance: training data, checkpoint, configuration, versions and date; ready for JSON.
    """

    class_names: tuple[str, ...]
    thresholds: tuple[float, ...]
    thresholds_from: str
    input_size: int
    provenance: dict = field(default_factory=dict)

    def properties(self) -> dict[str, str]:
        """Return the metadata as strings by name; all strings except ``format`` and ``resize`` are JSON."""
        fields = {name: json.dumps(value, ensure_ascii=False) for name, value in asdict(self).items()}
        return {"format": FORMAT, **fields, "resize": _RESIZE}

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], path: str) -> ExportMetadata:
        """Return the metadata from the result of :meth:`properties`. Error messages name the ``path`` of the file.

        Raises:
            InputError: the strings are missing or corrupt.
        """
        try:
            values = {name: json.loads(properties[name]) for name in cls.__dataclass_fields__}
            metadata = cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
            thresholds = np.array(metadata.thresholds, dtype=np.float64)
            valid = (
                properties["format"] == FORMAT
                and isinstance(metadata.input_size, int)
                and 0 < metadata.input_size <= _LARGEST_INPUT
                and isinstance(metadata.class_names, tuple)
                and all(isinstance(name, str) for name in metadata.class_names)
                and thresholds.shape == (len({*metadata.class_names}),)
                and ((thresholds >= 0) & (thresholds <= 1)).all()
            )
        except (KeyError, ValueError, TypeError, RecursionError):
            valid = False
        if not valid:
            raise InputError(f"{path}: its metadata is missing or corrupt; export it again")
        return metadata


@dataclass(frozen=True)
class ExportedClassifier:
    """A student in an exported file.

    Attributes:
        path: path of the file.
        metadata: metadata in the file.
        run: function that turns (N, S, S, 3) uint8 RGB pixels into (N, C) float32 scores.
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

    def predict_scores(self, views: np.ndarray) -> np.ndarray:
        """Return the (N, C) float32 probabilities of (N, S, S, 3) uint8 RGB images; S is ``metadata.input_size``."""
        scores = self.run(views)
        if not np.isfinite(scores).all():
            raise InputError(f"{self.path}: its scores are not finite; export it again")
        return scores.clip(0, 1)


def load_exported(path: str | os.PathLike[str], num_threads: int = 0) -> ExportedClassifier:
    """Open a file that ``mlickd export`` wrote. ONNX Runtime runs it; the file contains no code.

    Args:
        path: path of the file.
        num_threads: number of threads of ONNX Runtime; 0 uses all cores.

    Raises:
        InputError: the file is missing or corrupt, or is not an exported student; ONNX Runtime is not installed.
    """
    name = os.fspath(path)
    require_file(name, "model", "write it with `mlickd export`")
    onnxruntime = import_optional("onnxruntime", "an .onnx file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 4  # errors are raised, so the log is not needed
    # Waiting threads must not keep the cores busy that read photos.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        # A session from bytes cannot read other files that the content refers to.
        session = onnxruntime.InferenceSession(Path(name).read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the error classes of ONNX Runtime are not public
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"{name}: ONNX Runtime cannot run this file ({reason}); write it with `mlickd export`"
        ) from error
    metadata = ExportMetadata.from_properties(session.get_modelmeta().custom_metadata_map, name)
    side, tensors = metadata.input_size, (*session.get_inputs(), *session.get_outputs())
    if [value.shape[1:] for value in tensors] != [[side, side, 3], [len(metadata.class_names)]]:
        raise InputError(f"{name}: its network does not match its metadata; export it again")
    return ExportedClassifier(name, metadata, lambda pixels: session.run(["scores"], {"pixels": pixels})[0])


def import_optional(name: str, purpose: str, extra: str = "export") -> ModuleType:
    """Import a package of an extra of this package, or raise an InputError that names the purpose."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name if name == "onnxruntime" else f"'mlickd[{extra}]'"
        raise InputError(f"{purpose} needs the package {name}; run `pip install {package}`") from error
