"""The student as one file, for use without this project: ONNX, or PyTorch's own ``.pt2``.

Files are written by :mod:`mlickd.export.exporting`. What is here reads them, and uses neither Detectron2 nor, for ONNX,
PyTorch; importing ``mlickd`` does. The README shows how little a program without it takes.
"""

from .loading import ExportedClassifier, load_exported
from .metadata import ExportMetadata
from .photos import read_photo, resize_photo

__all__ = ["ExportMetadata", "ExportedClassifier", "load_exported", "read_photo", "resize_photo"]
