"""Predictions as a table, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from mlickd.files import strict_json, write_whole_file
from mlickd.visualization.results import format_score, one_line

from .prediction import Prediction
from .predictor import Predictor

__all__ = ["Choice", "Report"]


@dataclass(frozen=True)
class Choice:
    """Which classes of a photo are shown.

    Attributes:
        top: at most so many, the best; None shows all that are predicted.
        above_threshold: only those that reach their thresholds.
    """

    top: int | None = None
    above_threshold: bool = True

    def of(self, prediction: Prediction) -> list[tuple[str, float]]:
        """Names and scores, best first."""
        best = prediction.top(len(prediction.class_names))
        if self.above_threshold:
            best = [(name, prediction.scores[name]) for name in prediction.labels]
        return best if self.top is None else best[: self.top]


@dataclass
class Report:
    """What became of all photos.

    Attributes:
        model: as it was named.
        predictor: for the names and thresholds of its classes.
        choice: which classes are shown.
        predictions: of the photos that could be read.
        failures: why the others could not, a line each.
    """

    model: str
    predictor: Predictor
    choice: Choice
    predictions: list[Prediction] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many photos there were."""
        return len(self.predictions) + len(self.failures)

    def write(self, *, json: str | None = None, csv: str | None = None) -> None:
        """Write :meth:`as_json` and :meth:`as_csv`, each where a path is given; ``-`` is standard output.

        Raises:
            InputError: a file cannot be written.
        """
        if json is not None:
            _write(json, f"{strict_json(self.as_json())}\n")
        if csv is not None:
            _write(csv, self.as_csv())

    def table(self, width: int | None = None) -> str:
        """A line for each photo, its names shortened to the width of the terminal.

        Args:
            width: in characters; None takes that of the terminal, and shortens nothing where there is none.
        """
        if width is None:
            in_terminal = sys.stdout.isatty() or "COLUMNS" in os.environ
            width = shutil.get_terminal_size().columns if in_terminal else sys.maxsize
        room = max(12, width // 2)
        rows = []
        for prediction in self.predictions:
            name = one_line(prediction.name)
            name = name if len(name) <= room else f"…{name[1 - room :]}"
            rows.append([name, self._labels(prediction)])
        left = max((len(name) for name, _ in rows), default=0)
        for row in rows:
            row[1] = _fit(row[1], max(20, width - left - 2))
        return tabulate(rows, headers=["photo", "labels"], tablefmt="simple", disable_numparse=True)

    def as_json(self) -> dict[str, Any]:
        """All scores, and of a teacher's regions boxes in pixels of the upright photo."""
        names = self.predictor.class_names
        return {
            "model": self.model,
            # As they were written: in 32 bits 0.3 has more digits.
            "thresholds": {
                name: round(value, 7) for name, value in zip(names, self.predictor.thresholds.tolist(), strict=True)
            },
            "thresholds_from": self.predictor.thresholds_from,
            "photos": [self._photo(prediction) for prediction in self.predictions],
            "failures": self.failures,
        }

    def as_csv(self) -> str:
        """`file_name,labels`, labels joined by `;` as in a table of labels, and behind them a column for each class."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file_name", "labels", *self.predictor.class_names])
        for prediction in self.predictions:
            labels = ";".join(name for name, _ in self.choice.of(prediction))
            writer.writerow([prediction.name, labels, *(f"{score:.6g}" for score in prediction.values.tolist())])
        return file.getvalue()

    def _labels(self, prediction: Prediction) -> str:
        chosen = self.choice.of(prediction)
        if not chosen:
            ((name, score),) = prediction.top(1)
            return f"none (best: {one_line(name)} {format_score(score)})"
        return ", ".join(f"{one_line(name)} {format_score(score)}" for name, score in chosen)

    def _photo(self, prediction: Prediction) -> dict[str, Any]:
        chosen = [{"name": name, "score": score} for name, score in self.choice.of(prediction)]
        photo = {"file": prediction.name, "labels": chosen, "scores": prediction.scores}
        if prediction.regions is not None:
            regions = prediction.regions
            photo["regions"] = [
                {"box": box, "name": self.predictor.class_names[label], "score": score}
                for box, label, score in zip(
                    regions.pred_boxes.tensor.tolist(),
                    regions.pred_classes.tolist(),
                    regions.scores.tolist(),
                    strict=True,
                )
            ]
        return photo


def _fit(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _write(path: str, text: str) -> None:
    if path == "-":
        sys.stdout.write(text)
        return
    # A file name may have bytes that are no text.
    content = text.encode(errors="backslashreplace")
    write_whole_file(Path(path).expanduser(), content, "give another path", parents=True)
