"""A student as one ONNX file, which runs without this project.

:mod:`mlickd.export.onnx_export` writes the file, and :mod:`mlickd.export.parity` compares it with PyTorch. The
functions here run the file with ONNX Runtime. ``docs/using.md`` shows how to run the file without ``mlickd``.
"""

from .exported_classifier import ExportedClassifier, ExportMetadata, load_exported

__all__ = ["ExportMetadata", "ExportedClassifier", "load_exported"]
