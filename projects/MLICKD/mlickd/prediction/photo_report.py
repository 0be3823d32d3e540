"""The photos of a command line, and the report of the predictions as a table, JSON or CSV."""

import csv
import io
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tabulate import tabulate

from mlickd.errors import InputError
from mlickd.files import expand_path, strict_json, write_atomic
from mlickd.progress import progress
from mlickd.visualization.image_results import format_score, printable_line

from .predictor import Prediction, Predictor

# Stands for a list of paths on standard input, and for standard output.
STDIO = "-"


def find_photos(names: Sequence[str], listed: Iterable[str] = ()) -> list[str]:
    """Return the paths of the photos that a command line names, in its order, one path of each file.

    Args:
        names: photos, folders or patterns (see :func:`expand_path`), or ``-`` for ``listed``.
        listed: paths, one per line like the output of ``find``, or separated by NUL (``find -print0``).

    Raises:
        InputError: a folder, a pattern or the list has no image. A missing photo is reported when it is read.
    """
    photos: dict[str, str] = {}
    text = "".join(listed if STDIO in names else ())
    paths = text.split("\0") if "\0" in text else [line.strip() for line in text.split("\n")]
    for name in names:
        found = list(filter(None, paths)) if name == STDIO else expand_path(name)
        if not found:
            where = "standard input" if name == STDIO else name
            raise InputError(f"{where}: no image found; name photos, a folder, or a pattern such as 'photos/*.jpg'")
        for path in found:
            photos.setdefault(os.path.realpath(path), path)
    return list(photos.values())


@dataclass
class PhotoReport:
    """The predictions of all photos of a command line.

    Attributes:
        source: path of the model.
        predictor: the model.
        top: maximum number of classes to show for each photo; None shows all.
        above_threshold: whether to show only classes that reach their thresholds.
        predictions: predictions of the readable photos.
        failures: a line for each unreadable photo.
    """

    source: str
    predictor: Predictor
    top: int | None = None
    above_threshold: bool = True
    predictions: list[Prediction] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def predict(self, photos: Sequence[str], batch_size: int | None = None) -> Iterator[Prediction]:
        """Predict photos, show a progress bar in a terminal, and yield each prediction.

        Raises:
            InputError: none of the photos can be read.
        """
        predictions = self.predictor.predict_each(photos, batch_size)
        for found in progress(predictions, "predict", "photo", len(photos)):
            if isinstance(found, InputError):
                self.failures.append(str(found))
                continue
            self.predictions.append(found)
            yield found
        if not self.predictions:
            raise InputError(f"none of {len(photos)} photos can be read; the first: {self.failures[0]}")

    def shown(self, prediction: Prediction) -> list[tuple[str, float]]:
        """Return names and scores of the classes to show, best first."""
        names = prediction.labels if self.above_threshold else [name for name, _ in prediction.top(None)]
        return [(name, prediction.scores[name]) for name in names[: self.top]]

    def table(self) -> str:
        """Return a table with a line for each photo, shortened to the width of a terminal."""
        width = shutil.get_terminal_size(fallback=(sys.maxsize, 0)).columns
        rows = []
        for prediction in self.predictions:
            shown = ", ".join(f"{printable_line(name)} {format_score(score)}" for name, score in self.shown(prediction))
            if not shown:
                ((name, score),) = prediction.top(1)
                shown = f"none (best: {printable_line(name)} {format_score(score)})"
            name, limit = printable_line(prediction.name), max(12, width // 2)
            rows.append([name if len(name) <= limit else f"…{name[1 - limit :]}", shown])
        limit = max(20, width - max(len(name) for name, _ in rows) - 2)
        rows = [[name, text if len(text) <= limit else f"{text[: limit - 1]}…"] for name, text in rows]
        return tabulate(rows, headers=["photo", "labels"], tablefmt="simple", disable_numparse=True)

    def as_json(self) -> str:
        """Return all scores as JSON, and a teacher's regions with boxes in pixels of the upright photo."""
        names = self.predictor.class_names
        thresholds = [round(value, 7) for value in self.predictor.thresholds.tolist()]  # float32 has 7 digits
        content = {
            "model": self.source,
            "thresholds": dict(zip(names, thresholds, strict=True)),
            "thresholds_from": self.predictor.thresholds_from,
            "photos": [],
            "failures": self.failures,
        }
        for prediction in self.predictions:
            labels = [{"name": name, "score": prediction.scores[name]} for name in prediction.labels[: self.top]]
            photo = {"file": prediction.name, "labels": labels, "scores": prediction.scores}
            if (regions := prediction.regions) is not None:
                boxes, scores = regions.pred_boxes.tensor.tolist(), regions.scores.tolist()
                rows = zip(boxes, regions.pred_classes, scores, strict=True)
                photo["regions"] = [{"box": box, "name": names[label], "score": score} for box, label, score in rows]
            content["photos"].append(photo)
        return f"{strict_json(content)}\n"

    def as_csv(self) -> str:
        """Return CSV with the columns ``file_name``, ``labels`` (joined by ``;``), and the score of each class."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file_name", "labels", *self.predictor.class_names])
        for prediction in self.predictions:
            labels = ";".join(prediction.labels[: self.top])
            writer.writerow([prediction.name, labels, *(f"{score:.6g}" for score in prediction.values.tolist())])
        return file.getvalue()


def write_text(path: str, text: str) -> None:
    """Write a report to a file, or to standard output if the path is ``-``."""
    if path == STDIO:
        sys.stdout.write(text)
    else:
        # File names may have bytes that are not UTF-8.
        content = text.encode(errors="backslashreplace")
        write_atomic(path, content, "give another path")
