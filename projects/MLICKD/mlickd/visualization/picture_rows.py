"""Small pictures in a row, each with words below it: what TensorBoard shows of a run."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from .results import one_line

__all__ = ["picture_row", "training_view_row"]

# In pixels.
SIDE = 256
MARGIN = 6
FONT_SIZE = 15
LINE_HEIGHT = 19
# Of a caption, and letters of a line.
LINES = 3
LETTERS = 30


def picture_row(pictures: Sequence[np.ndarray], captions: Sequence[str]) -> torch.Tensor:
    """Pictures beside each other.

    Args:
        pictures: (H, W, 3) uint8 RGB each; shown with a longer side of 256 pixels.
        captions: a text for each, of which three lines are shown.

    Returns:
        (3, H', W') uint8 RGB, as ``EventStorage.put_image`` takes it.
    """
    # It comes with matplotlib.
    font = ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), FONT_SIZE)
    size = len(pictures) * (SIDE + MARGIN) + MARGIN, SIDE + 3 * MARGIN + LINES * LINE_HEIGHT
    row = Image.new("RGB", size, "white")
    for number, (pixels, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = MARGIN + number * (SIDE + MARGIN)
        picture = Image.fromarray(pixels)
        scale = SIDE / max(picture.size)
        picture = picture.resize([max(1, round(scale * side)) for side in picture.size], Image.Resampling.BICUBIC)
        row.paste(picture, (left, MARGIN))
        words = Image.new("RGB", (SIDE, LINES * LINE_HEIGHT), "white")
        text = "\n".join(textwrap.wrap(one_line(caption), LETTERS)[:LINES])
        ImageDraw.Draw(words).text((0, 0), text, "black", font)
        row.paste(words, (left, SIDE + 2 * MARGIN))
    return torch.from_numpy(np.array(row)).permute(2, 0, 1)


def training_view_row(samples: Sequence[dict], class_names: Sequence[str], image_format: str) -> torch.Tensor:
    """What a model sees of some training images, each with its labels.

    Args:
        samples: with ``image`` (3, H, W) uint8 and, where they are known, ``labels``.
        class_names: C names.
        image_format: of ``image``, ``RGB`` or ``BGR``.

    Returns:
        See :func:`picture_row`.
    """
    pictures, captions = [], []
    for sample in samples:
        pixels = sample["image"] if image_format == "RGB" else sample["image"].flip(0)
        pictures.append(pixels.permute(1, 2, 0).contiguous().numpy())
        names = [class_names[label] for label in sample["labels"]] if "labels" in sample else ["(labels not read)"]
        captions.append(", ".join(names) or "(no label)")
    return picture_row(pictures, captions)
