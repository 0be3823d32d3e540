"""The models that predict: a run's, and an exported one. Each reads a photo as the evaluation does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.evaluation.evaluator import inference_context
from detectron2.structures import Instances
from torch import nn

from mlickd.data.build import build_inference_mapper, model_class
from mlickd.data.reading import open_image
from mlickd.data.views import View

__all__ = ["ExportedModel", "ExportedScorer", "ImageScorer", "RunModel"]


class ImageScorer(Protocol):
    """
    Attributes:
        batch_size: that suits the model.
        reading_threads: how many photos may be read at once.
    """

    batch_size: int
    reading_threads: int

    def read(self, record: dict) -> Any:
        """What the model takes of a photo; see :func:`mlickd.prediction.images.photo_record`.

        Raises:
            InputError: the photo cannot be read.
        """

    def score(self, samples: Sequence[Any]) -> list[tuple[np.ndarray, Instances | None]]:
        """Of each photo that was read its (C,) float32 probabilities, and of a teacher its regions."""


class ExportedScorer(Protocol):
    """What :func:`mlickd.export.load_exported` gives.

    Attributes:
        class_names: C names.
        thresholds: (C,) float32.
        input_size: side of the square that the network sees, in pixels; images of this size are taken as they are.
    """

    class_names: tuple[str, ...]
    thresholds: np.ndarray
    input_size: int

    def scores(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """From N arrays (H, W, 3) uint8 RGB to (N, C) float32 probabilities."""


class RunModel:
    """A model that training has left."""

    def __init__(self, cfg: CfgNode, model: nn.Module):
        """
        Args:
            cfg: of the model.
            model: with its weights.
        """
        self._model = model
        self._mapper = build_inference_mapper(cfg)
        self.batch_size = cfg.TEST.IMS_PER_BATCH
        # Some methods of proposals draw from a generator that is the process's.
        self.reading_threads = 1 if model_class(cfg).is_detector else 4

    def read(self, record: dict) -> dict:
        """See :class:`ImageScorer`; a teacher's proposals are made here."""
        return self._mapper(record)

    def score(self, samples: Sequence[dict]) -> list[tuple[np.ndarray, Instances | None]]:
        """See :class:`ImageScorer`."""
        with inference_context(self._model), torch.no_grad():
            outputs = self._model(samples)
        found = []
        for output in outputs:
            # WSDDN's scores are sums, which may leave [0, 1] by rounding: the evaluation clips them, too.
            scores = output["image_scores"].to("cpu", torch.float32).clamp(0, 1).numpy()
            found.append((scores, output["instances"].to("cpu") if "instances" in output else None))
        return found


class ExportedModel:
    """A student in an exported file."""

    batch_size = 16
    reading_threads = 4

    def __init__(self, exported: ExportedScorer):
        self._exported = exported

    def read(self, record: dict) -> np.ndarray:
        """See :class:`ImageScorer`: (S, S, 3) uint8 RGB, read and resized as the run does that was exported."""
        file, view = open_image(record), View(self._exported.input_size)
        pixels, reduction = file.pixels(view.reduction(file.height, file.width))
        seen = view.pixels(pixels, file.height, file.width, reduction=reduction)
        return seen.permute(1, 2, 0).contiguous().numpy()

    def score(self, samples: Sequence[np.ndarray]) -> list[tuple[np.ndarray, Instances | None]]:
        """See :class:`ImageScorer`."""
        return [(scores, None) for scores in self._exported.scores(samples)]
