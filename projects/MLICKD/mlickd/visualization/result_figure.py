"""The paper's result figure: a photo with the teacher's regions, beside it what the students predict."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from mlickd.data.images import read_image

from .regions import draw_regions
from .results import ImageResult, Prediction, format_score, one_line

__all__ = ["BLUE", "GRAY", "INK", "MARKS", "RED", "draw_result_figure", "figure_font", "fitted_photo_side", "shorten"]

BLUE, RED, GRAY, INK = "#1a4fd0", "#c8201e", "#6b7280", "#16181d"
# A mark beside the color, for readers who do not see the difference. None: the class does not count here.
MARKS = {True: "\N{CHECK MARK}", False: "\N{BALLOT X}", None: "\N{EN DASH}"}
COLORS = {True: BLUE, False: RED, None: GRAY}

# In pixels.
PHOTO_SIZE = (720, 600)
MARGIN = 28
COLUMN_WIDTH = 310
COLUMN_GAP = 36
ROW_HEIGHT = 66
FONT_SIZE = 24
LINE_HEIGHT = 34


def draw_result_figure(
    result: ImageResult, class_names: Sequence[str], *, top_k: int = 10, predictions: int = 3
) -> Image.Image:
    """The photo with the teacher's best regions, the true labels, and the predictions of each student: right ones
    blue, wrong ones red.

    Args:
        result: of one image; parts that it does not have are left out.
        class_names: C names, for the regions.
        top_k: regions drawn.
        predictions: best classes shown of each student, whether or not they reach a threshold.

    Raises:
        InputError: the image cannot be read.
    """
    image = read_image(result.file_name)
    side = fitted_photo_side(*image.shape[:2])
    photo = Image.fromarray(draw_regions(image, result.regions, class_names, top_k=top_k, side=side))
    students = {title: found[:predictions] for title, found in result.students.items()}
    columns = max(len(students), 1)
    width = columns * COLUMN_WIDTH + (columns - 1) * COLUMN_GAP
    labels = _wrap(", ".join(map(one_line, result.labels or ())) or "none", figure_font(), width)
    labels_height = 0 if result.labels is None else LINE_HEIGHT * (1 + len(labels))
    rows = max((len(found) for found in students.values()), default=0)
    predictions_height = LINE_HEIGHT + 12 + rows * ROW_HEIGHT + 14 if students else 0
    text_height = predictions_height + labels_height
    size = 3 * MARGIN + photo.width + width, 2 * MARGIN + max(photo.height, text_height)
    figure = Image.new("RGB", size, "white")
    figure.paste(photo, (MARGIN, MARGIN))

    draw = ImageDraw.Draw(figure)
    left, top = 2 * MARGIN + photo.width, MARGIN
    for column, (title, found) in enumerate(students.items()):
        _draw_column(draw, left + column * (COLUMN_WIDTH + COLUMN_GAP), top, title, found)
    top += predictions_height
    if result.labels is None:
        return figure
    draw.text((left, top), "True labels", INK, figure_font(bold=True))
    for number, line in enumerate(labels, start=1):
        draw.text((left, top + number * LINE_HEIGHT), line, INK, figure_font())
    return figure


def _draw_column(draw: ImageDraw.ImageDraw, left: int, top: int, title: str, predictions: Sequence[Prediction]) -> None:
    draw.text((left, top), title, INK, figure_font(bold=True))
    top += LINE_HEIGHT + 4
    draw.line((left, top, left + COLUMN_WIDTH, top), GRAY, width=1)
    top += 8
    for prediction in predictions:
        color, score = COLORS[prediction.correct], format_score(prediction.score)
        score_width = figure_font().getlength(score)
        draw.text((left + COLUMN_WIDTH - score_width, top), score, color, figure_font())
        draw.text((left, top), MARKS[prediction.correct], color, figure_font(bold=True))
        name_left = left + 34
        room = COLUMN_WIDTH - 34 - score_width - 14
        name = shorten(one_line(prediction.class_name), figure_font(bold=True), room)
        draw.text((name_left, top), name, color, figure_font(bold=True))
        bar = (name_left, top + 36, left + COLUMN_WIDTH, top + 43)
        draw.rectangle(bar, "#e5e7eb")
        length = round((bar[2] - bar[0]) * min(max(prediction.score, 0.0), 1.0))
        if length:
            draw.rectangle((bar[0], bar[1], bar[0] + length, bar[3]), color)
        top += ROW_HEIGHT


def fitted_photo_side(height: int, width: int) -> int:
    """The longer side, in pixels, at which a photo of this size fits its place in a figure."""
    return round(max(height, width) * min(PHOTO_SIZE[0] / width, PHOTO_SIZE[1] / height))


@cache
def figure_font(*, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", name), FONT_SIZE)


def shorten(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """A text with its end left out where it is wider than ``room`` pixels."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(f"{text}\N{HORIZONTAL ELLIPSIS}") > room:
        text = text[:-1]
    return f"{text.rstrip()}\N{HORIZONTAL ELLIPSIS}"


def _wrap(text: str, font: ImageFont.FreeTypeFont, room: float) -> list[str]:
    """Lines that fit, broken between words."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if font.getlength(longer) <= room or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return [shorten(line, font, room) for line in lines]
