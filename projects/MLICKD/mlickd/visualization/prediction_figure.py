"""A photo with predicted labels and scores next to it, and a teacher's regions in it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path

from detectron2.structures import Instances
from PIL import Image, ImageDraw

from mlickd.data.images import read_image
from mlickd.errors import InputError

from .regions import draw_regions
from .result_figure import BLUE, COLUMN_WIDTH, GRAY, INK, MARGIN, ROW_HEIGHT, figure_font, fitted_photo_side, shorten
from .results import format_score, one_line

__all__ = ["PredictionFigures", "draw_prediction"]


def draw_prediction(
    photo: str, rows: Sequence[tuple[str, float, bool]], regions: Instances | None, class_names: Sequence[str]
) -> Image.Image:
    """Draw a photo with a bar for each class next to it.

    Args:
        photo: path of the photo.
        rows: name, score and whether it is predicted, for each class to show; classes that are not predicted are gray.
        regions: regions of a teacher, in pixels of the upright photo; the best regions of the shown classes are drawn.
        class_names: C names, for the regions.

    Raises:
        InputError: the photo cannot be read.
    """
    image = read_image(photo)
    side = fitted_photo_side(*image.shape[:2])
    if regions is not None:
        shown = {name for name, _, _ in rows}
        regions = regions[[class_names[label] in shown for label in regions.pred_classes.tolist()]]
    drawn = Image.fromarray(draw_regions(image, regions, class_names, side=side))
    height = max(drawn.height, len(rows) * ROW_HEIGHT)
    figure = Image.new("RGB", (drawn.width + COLUMN_WIDTH + 3 * MARGIN, height + 2 * MARGIN), "white")
    figure.paste(drawn, (MARGIN, MARGIN))
    draw = ImageDraw.Draw(figure)
    left, right = drawn.width + 2 * MARGIN, drawn.width + 2 * MARGIN + COLUMN_WIDTH
    for place, (name, score, predicted) in enumerate(rows):
        top = MARGIN + place * ROW_HEIGHT
        ink, bar = (INK, BLUE) if predicted else (GRAY, GRAY)
        digits = format_score(score)
        score_left = right - figure_font().getlength(digits)
        draw.text((score_left, top), digits, ink, figure_font())
        font = figure_font(bold=predicted)
        draw.text((left, top), shorten(one_line(name), font, score_left - left - 14), ink, font)
        draw.rectangle((left, top + 36, right, top + 43), "#e5e7eb")
        length = round(COLUMN_WIDTH * min(max(score, 0.0), 1.0))
        if length:
            draw.rectangle((left, top + 36, left + length, top + 43), bar)
    return figure


class PredictionFigures:
    """Writes figures of predictions into a folder, each under the name of its photo."""

    def __init__(self, folder: Path):
        """
        Args:
            folder: new or empty folder, so that no figure replaces a photo.

        Raises:
            InputError: the folder cannot be made, or is not empty.
        """
        self.folder = folder
        self._taken: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be made a folder ({error.strerror}); give another path") from error
        if any(folder.iterdir()):
            raise InputError(f"{folder}: is not empty, and figures may replace files in it; name a new folder")

    def write(self, photo: str, *arguments) -> Path:
        """Write :func:`draw_prediction` as JPEG, with a number after the name if another photo has the same name.

        Raises:
            InputError: the photo cannot be read, or the figure cannot be written.
        """
        stem = Path(photo).stem
        names = (f"{stem}{'' if number == 1 else f'-{number}'}.jpg" for number in count(1))
        name = next(name for name in names if name not in self._taken)
        self._taken.add(name)
        path = self.folder / name
        try:
            draw_prediction(photo, *arguments).save(path, quality=90)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error}); give another path") from error
        return path
