"""A photo with what a model says of it: labels with their scores beside it, and a teacher's regions in it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import torch
from detectron2.structures import Instances
from PIL import Image, ImageDraw

from mlickd.data.reading import read_image
from mlickd.errors import InputError
from mlickd.prediction import Prediction

from .regions import draw_regions
from .result_figure import BLUE, COLUMN_WIDTH, GRAY, INK, MARGIN, ROW_HEIGHT, figure_font, fitted_photo_side, shorten
from .results import format_score, one_line

__all__ = ["PredictionPictures", "draw_prediction"]


def draw_prediction(prediction: Prediction, labels: Sequence[tuple[str, float]]) -> Image.Image:
    """
    Args:
        prediction: of a photo in a file.
        labels: names and scores to show beside it, best first; those below their thresholds are gray. Of a teacher the
            best regions of these classes are drawn.

    Raises:
        InputError: the photo cannot be read.
    """
    image = read_image(prediction.name)
    side = fitted_photo_side(*image.shape[:2])
    rows = list(labels) or prediction.top(1)
    regions = _regions_of(prediction, [name for name, _ in rows])
    photo = Image.fromarray(draw_regions(image, regions, prediction.class_names, side=side))
    height = max(photo.height, len(rows) * ROW_HEIGHT)
    figure = Image.new("RGB", (photo.width + COLUMN_WIDTH + 3 * MARGIN, height + 2 * MARGIN), "white")
    figure.paste(photo, (MARGIN, MARGIN))
    predicted = set(prediction.labels)
    draw = ImageDraw.Draw(figure)
    left, right = photo.width + 2 * MARGIN, photo.width + 2 * MARGIN + COLUMN_WIDTH
    for place, (name, score) in enumerate(rows):
        top = MARGIN + place * ROW_HEIGHT
        ink, bar = (INK, BLUE) if name in predicted else (GRAY, GRAY)
        digits = format_score(score)
        score_left = right - figure_font().getlength(digits)
        draw.text((score_left, top), digits, ink, figure_font())
        bold = figure_font(bold=name in predicted)
        draw.text((left, top), shorten(one_line(name), bold, score_left - left - 14), ink, bold)
        draw.rectangle((left, top + 36, right, top + 43), "#e5e7eb")
        length = round(COLUMN_WIDTH * min(max(score, 0.0), 1.0))
        if length:
            draw.rectangle((left, top + 36, left + length, top + 43), bar)
    return figure


def _regions_of(prediction: Prediction, names: Collection[str]) -> Instances | None:
    """The regions of these classes alone: what is shown beside the photo."""
    if prediction.regions is None:
        return None
    shown = torch.tensor([prediction.class_names[label] in names for label in prediction.regions.pred_classes.tolist()])
    return prediction.regions[shown.bool()]


class PredictionPictures:
    """Writes pictures of predictions into a folder, each under the name of its photo."""

    def __init__(self, folder: Path):
        """
        Args:
            folder: is made; one that is there is empty, so that no photo is lost for the picture of another.

        Raises:
            InputError: it cannot be made, or is not empty.
        """
        self.folder = folder
        self._taken: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be made a folder ({error.strerror}); give another path") from error
        if any(folder.iterdir()):
            raise InputError(f"{folder}: is not empty, and pictures may replace what is there; name a new folder")

    def write(self, prediction: Prediction, labels: Sequence[tuple[str, float]]) -> Path:
        """Write :func:`draw_prediction` as JPEG.

        Returns:
            Its path: the name of the photo, with a number behind it where another photo has the same.

        Raises:
            InputError: the photo cannot be read, or the picture not be written.
        """
        stem = Path(prediction.name).stem
        name = next(name for name in _names(stem) if name not in self._taken)
        self._taken.add(name)
        path = self.folder / name
        try:
            draw_prediction(prediction, labels).save(path, quality=90)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error}); give another path") from error
        return path


def _names(stem: str) -> Iterable[str]:
    yield f"{stem}.jpg"
    number = 2
    while True:
        yield f"{stem}-{number}.jpg"
        number += 1
