"""What a model says of one photo."""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from detectron2.structures import Instances

__all__ = ["Prediction"]


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """
    Attributes:
        name: of the photo: its path as it was given, or "image 1", "image 2", ... of arrays and pictures.
        class_names: C names.
        values: (C,) float32 probabilities, in the order of the names.
        thresholds: (C,) float32; a class is predicted where ``value >= threshold``.
        regions: of a teacher, Instances with ``pred_boxes`` in pixels of the upright photo, ``scores`` and
            ``pred_classes``; None of a student, which sees the photo as a whole.
    """

    name: str
    class_names: tuple[str, ...]
    values: np.ndarray
    thresholds: np.ndarray
    regions: Instances | None = None

    @cached_property
    def scores(self) -> dict[str, float]:
        """The score of every class by its name, in the order of the classes."""
        return dict(zip(self.class_names, self.values.tolist(), strict=True))

    @cached_property
    def labels(self) -> list[str]:
        """Names of the classes that reach their thresholds, best first."""
        return [self.class_names[index] for index in self._ranked() if self.values[index] >= self.thresholds[index]]

    def top(self, count: int = 3) -> list[tuple[str, float]]:
        """Names and scores of the best classes, whatever their thresholds; equal scores in the order of the classes."""
        return [(self.class_names[index], float(self.values[index])) for index in self._ranked()[:count]]

    def _ranked(self) -> list[int]:
        return np.argsort(-self.values, kind="stable").tolist()

    def __repr__(self) -> str:
        found = ", ".join(f"{label} {self.scores[label]:.2f}" for label in self.labels)
        if not found:
            name, score = self.top(1)[0]
            found = f"no label; best {name} {score:.2f}"
        return f"<{type(self).__name__} {self.name}: {found}>"

    def _repr_html_(self) -> str:
        """For a notebook: the labels, or the best three where there are fewer, with bars."""
        labels = set(self.labels)
        rows = []
        for name, score in self.top(max(3, len(labels))):
            weight = "bold" if name in labels else "normal; color:#6b7280"
            bar = f"<div style='width:{100 * min(max(score, 0), 1):.0f}px;height:8px;background:#1a4fd0'></div>"
            cells = f"<td style='text-align:left;font-weight:{weight}'>{html.escape(name)}</td><td>{score:.2f}</td>"
            rows.append(f"<tr>{cells}<td>{bar}</td></tr>")
        return f"<table><caption>{html.escape(self.name)}</caption>{''.join(rows)}</table>"
