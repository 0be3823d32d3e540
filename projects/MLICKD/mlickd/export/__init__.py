"""A student as one ONNX file, which runs without this project.

:mod:`mlickd.export.onnx_export` writes the file, and :mod:`mlickd.export.parity` compares it with PyTorch. The
functions here read the file with ONNX Runtime and Pillow only. The README shows how to read it without ``mlickd``.
"""

from .exported_classifier import ExportedClassifier, ExportMetadata, load_exported, read_photo

__all__ = ["ExportMetadata", "ExportedClassifier", "load_exported", "read_photo"]
