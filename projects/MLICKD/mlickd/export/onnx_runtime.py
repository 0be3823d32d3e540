"""Reading an exported ONNX file with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mlickd.errors import InputError

from .metadata import ExportMetadata
from .optional import import_optional

__all__ = ["open_onnx"]

_TYPES = {True: "tensor(uint8)", False: "tensor(float)"}  # of the input, with preprocessing and without


def open_onnx(
    content: bytes, path: str, threads: int | None = None
) -> tuple[ExportMetadata, Callable[[np.ndarray], np.ndarray]]:
    """
    Args:
        content: of the file. A file that keeps its weights elsewhere cannot be opened from its bytes.
        path: of the file, for messages.
        threads: of ONNX Runtime; None leaves them to it.

    Returns:
        Its metadata, and the network: from (N, ...) input to (N, C) float32 scores.

    Raises:
        InputError: the file is damaged or not an exported student; ONNX Runtime is not installed.
    """
    onnxruntime = import_optional("onnxruntime", "an .onnx file")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong comes as an error
    if threads is not None:
        options.intra_op_num_threads = options.inter_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of many classes, which ONNX Runtime does not export
        raise InputError(f"{path}: not an ONNX file that can be run ({_first_line(error)}); export it again") from error
    metadata = ExportMetadata.from_properties(session.get_modelmeta().custom_metadata_map, path)
    _check_graph(session, metadata, path)
    return metadata, lambda images: _run(session, metadata, images, path)


def _run(session, metadata: ExportMetadata, images: np.ndarray, path: str) -> np.ndarray:
    try:
        return session.run(["scores"], {metadata.input_name: images})[0]
    except Exception as error:
        raise InputError(f"{path}: fails in ONNX Runtime ({_first_line(error)}); export it again") from error


def _check_graph(session, metadata: ExportMetadata, path: str) -> None:
    """The metadata must be of this graph."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    found = [(value.name, value.type, tuple(value.shape[1:])) for value in (*inputs, *outputs)]
    expected = [
        (metadata.input_name, _TYPES[metadata.preprocessing], metadata.input_shape(1)[1:]),
        ("scores", "tensor(float)", (len(metadata.class_names),)),
    ]
    fixed = [value.name for value in (*inputs, *outputs) if not value.shape or isinstance(value.shape[0], int)]
    if found != expected or fixed:
        raise InputError(f"{path}: its graph has {found}, its metadata says {expected}, of any batch; export it again")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
