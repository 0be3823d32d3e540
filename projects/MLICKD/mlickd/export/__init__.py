"""A student as one ONNX file, for use without this project.

:mod:`mlickd.export.onnx_export` writes the file and :mod:`mlickd.export.parity` compares it with PyTorch. The
functions here read the file with ONNX Runtime and Pillow only; the README shows how to do the same without ``mlickd``.
"""

from .exported_classifier import ExportedClassifier, load_exported, read_photo, resize_photo
from .metadata import ExportMetadata

__all__ = ["ExportMetadata", "ExportedClassifier", "load_exported", "read_photo", "resize_photo"]
