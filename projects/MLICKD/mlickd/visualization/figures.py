"""Figures with Pillow: the paper's result figure, predictions next to a photo, and rows of images for TensorBoard."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from mlickd.decoding import read_image

from .image_results import BLUE, INK, RED, ImageResult, format_score, printable_line
from .regions import dejavu_font, draw_regions

if TYPE_CHECKING:
    from detectron2.structures import Instances

GRAY, TRACK = "#6b7280", "#e5e7eb"
# Color and mark of a class that is right, wrong, or ignored (None).
MARKS = {True: (BLUE, "\N{CHECK MARK}"), False: (RED, "\N{BALLOT X}"), None: (GRAY, "\N{EN DASH}")}

# Number of classes of each student in the result figure.
NUM_PREDICTIONS = 3
# Sizes in pixels.
PHOTO_SIZE = (720, 600)
MARGIN = 28
COLUMN_WIDTH = 310
COLUMN_GAP = 36
ROW_HEIGHT = 66
FONT_SIZE = 24
LINE_HEIGHT = 34
LETTER_WIDTH = 13
# Rows of images for TensorBoard, in pixels, and the size of a caption in lines and characters.
TILE, TILE_GAP, TILE_CAPTION, TILE_FONT_SIZE = 256, 6, 62, 15
CAPTION_LINES, CAPTION_LETTERS = 3, 30


def draw_result_figure(result: ImageResult, class_names: Sequence[str]) -> Image.Image:
    """Draw a photo with the teacher's ten best regions, its labels, and the best three classes of each student.

    Right classes are blue, and wrong classes are red. Missing parts of the result are left out.

    Args:
        result: results of one image.
        class_names: C names.

    Raises:
        InputError: the image cannot be read.
    """
    columns = max(len(result.students), 1)
    width = columns * COLUMN_WIDTH + (columns - 1) * COLUMN_GAP
    students_height = LINE_HEIGHT + 26 + NUM_PREDICTIONS * ROW_HEIGHT if result.students else 0
    lines = textwrap.wrap(", ".join(map(printable_line, result.labels or ())) or "none", width // LETTER_WIDTH)
    labels = ["True labels", *(_shorten(line, width) for line in lines)] if result.labels is not None else []
    height = students_height + LINE_HEIGHT * len(labels)
    figure, left = _figure_with_photo(result.file_name, result.regions, class_names, width, height)
    draw = ImageDraw.Draw(figure)
    for column, (role, classes) in enumerate(result.students.items()):
        x = left + column * (COLUMN_WIDTH + COLUMN_GAP)
        draw.text((x, MARGIN), role.capitalize(), INK, dejavu_font(FONT_SIZE, True))
        draw.line((x, MARGIN + LINE_HEIGHT + 4, x + COLUMN_WIDTH, MARGIN + LINE_HEIGHT + 4), GRAY, width=1)
        for row, shown in enumerate(classes[:NUM_PREDICTIONS]):
            color, mark = MARKS[shown.is_label]
            top = MARGIN + LINE_HEIGHT + 12 + row * ROW_HEIGHT
            draw.text((x, top), mark, color, dejavu_font(FONT_SIZE, True))
            _draw_score(draw, x + 34, top, COLUMN_WIDTH - 34, shown.class_name, shown.score, color, color)
    for number, line in enumerate(labels):
        top = MARGIN + students_height + number * LINE_HEIGHT
        draw.text((left, top), line, INK, dejavu_font(FONT_SIZE, number == 0))
    return figure


def draw_prediction(
    photo: str, rows: Sequence[tuple[str, float, bool]], regions: Instances | None, class_names: Sequence[str]
) -> Image.Image:
    """Draw a photo with a bar for each class next to it.

    Args:
        photo: path of the photo.
        rows: name and score of each class to show, and whether it is predicted; other classes are gray.
        regions: regions of a teacher, in pixels of the upright photo; the best regions of the shown classes are drawn.
        class_names: C names.

    Raises:
        InputError: the photo cannot be read.
    """
    if regions is not None:
        shown = {name for name, _, _ in rows}
        regions = regions[[class_names[label] in shown for label in regions.pred_classes.tolist()]]
    figure, left = _figure_with_photo(photo, regions, class_names, COLUMN_WIDTH, len(rows) * ROW_HEIGHT)
    draw = ImageDraw.Draw(figure)
    for row, (name, score, predicted) in enumerate(rows):
        color, ink = (BLUE, INK) if predicted else (GRAY, GRAY)
        _draw_score(draw, left, MARGIN + row * ROW_HEIGHT, COLUMN_WIDTH, name, score, color, ink)
    return figure


def save_figure_of_photo(figure: Image.Image, folder: Path, photo: str) -> None:
    """Write a figure as JPEG with the name of its photo. If the file exists, a number is added to the name."""
    stem = Path(photo).stem
    paths = (folder / f"{stem}{'' if number == 1 else f'-{number}'}.jpg" for number in count(1))
    figure.save(next(path for path in paths if not path.exists()), quality=90)


def image_row(images: Sequence[np.ndarray], captions: Sequence[str]) -> np.ndarray:
    """Return images side by side, each above its caption.

    Args:
        images: (H, W, 3) uint8 RGB arrays; they are scaled to a longer side of 256 pixels.
        captions: texts of the images; they are cut after three lines.

    Returns:
        (3, H', W') uint8 RGB, for ``EventStorage.put_image``.
    """
    tiles = []
    for pixels, caption in zip(images, captions, strict=True):
        tile = Image.new("RGB", (TILE, TILE + TILE_CAPTION), "white")
        tile.paste(ImageOps.contain(Image.fromarray(pixels), (TILE, TILE)))
        lines = textwrap.wrap(printable_line(caption), CAPTION_LETTERS)[:CAPTION_LINES]
        ImageDraw.Draw(tile).text((0, TILE + 4), "\n".join(lines), "black", dejavu_font(TILE_FONT_SIZE))
        tiles.append(np.pad(tile, ((0, 0), (0, TILE_GAP), (0, 0)), constant_values=255))
    return np.concatenate(tiles, axis=1).transpose(2, 0, 1)


def training_view_row(samples: Sequence[dict], class_names: Sequence[str], image_format: str) -> np.ndarray:
    """Return training images as the model receives them, with their labels as captions; see :func:`image_row`.

    Args:
        samples: samples with ``image``, (3, H, W) uint8 in ``image_format``, and ``labels`` if they are labeled.
        class_names: C names.
        image_format: ``RGB`` or ``BGR``.
    """
    images, captions = [], []
    for sample in samples:
        pixels = sample["image"] if image_format == "RGB" else sample["image"].flip(0)
        images.append(pixels.permute(1, 2, 0).contiguous().numpy())
        names = [class_names[label] for label in sample["labels"]] if "labels" in sample else ["(unlabeled)"]
        captions.append(", ".join(names) or "(no label)")
    return image_row(images, captions)


def _figure_with_photo(
    path: str, regions: Instances | None, class_names: Sequence[str], width: int, height: int
) -> tuple[Image.Image, int]:
    """Return a white figure with a photo and an empty area of this size for text, and the left edge of the area."""
    pixels = read_image(path)
    side = round(max(pixels.shape[:2]) * min(PHOTO_SIZE[0] / pixels.shape[1], PHOTO_SIZE[1] / pixels.shape[0]))
    photo = Image.fromarray(draw_regions(pixels, regions, class_names, side=side))
    size = 3 * MARGIN + photo.width + width, 2 * MARGIN + max(photo.height, height)
    figure = Image.new("RGB", size, "white")
    figure.paste(photo, (MARGIN, MARGIN))
    return figure, 2 * MARGIN + photo.width


def _draw_score(
    draw: ImageDraw.ImageDraw, left: int, top: int, width: int, name: str, score: float, color: str, ink: str
) -> None:
    """Draw the name and the score of a class in the color ``ink``, above a bar that shows the score in ``color``."""
    bold, digits = color != GRAY, format_score(score)
    digits_width = dejavu_font(FONT_SIZE).getlength(digits)
    draw.text((left + width - digits_width, top), digits, ink, dejavu_font(FONT_SIZE))
    title = _shorten(printable_line(name), width - digits_width - 14, bold)
    draw.text((left, top), title, ink, dejavu_font(FONT_SIZE, bold))
    draw.rectangle((left, top + 36, left + width, top + 43), TRACK)
    if length := round(width * min(max(score, 0.0), 1.0)):
        draw.rectangle((left, top + 36, left + length, top + 43), color)


def _shorten(text: str, max_width: float, bold: bool = False) -> str:
    """Return a text that is at most ``max_width`` pixels wide; an ellipsis replaces the rest of a longer text."""
    font = dejavu_font(FONT_SIZE, bold)
    shorter = (text[:length].rstrip() + "…" for length in range(len(text) - 1, -1, -1))
    return next((found for found in (text, *shorter) if font.getlength(found) <= max_width), "")
