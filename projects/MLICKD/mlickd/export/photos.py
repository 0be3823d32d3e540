"""Photos at the size of the network by Pillow alone: what a program without this project does.

The project itself decodes by simplejpeg and resizes by PyTorch (:mod:`mlickd.data.resampling`), which takes less time;
the pixels differ by rounding.
"""

from __future__ import annotations

import os

import numpy as np
from PIL import Image, ImageOps

from mlickd.errors import InputError
from mlickd.image_files import open_image_file, too_large, why_unreadable

__all__ = ["read_photo", "resize_photo"]


def read_photo(path: str | os.PathLike[str], side: int) -> np.ndarray:
    """The whole of a photo in a file, upright, warped to a square.

    A JPEG of at least twice that size is decoded at 1/2, 1/4 or 1/8 of it, as the project does. What is transparent is
    not laid on white, as the project does, and 16-bit gray is not scaled: such files are rarely photos.

    Args:
        path: of the file.
        side: of the square, in pixels.

    Returns:
        (side, side, 3) uint8 RGB.

    Raises:
        InputError: the file is missing or cannot be read as an image.
    """
    try:
        with open_image_file(path) as image:
            box = (image.draft("RGB", (side, side)) or (None, None))[1]
            pixels = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR, box=box)
            return np.array(ImageOps.exif_transpose(pixels))
    except FileNotFoundError:
        raise InputError(f"{path}: image file not found; put it there") from None
    except Image.DecompressionBombError as error:
        raise InputError(too_large(path)) from error
    except Exception as error:  # decoders fail in many ways on damaged data
        raise InputError(f"{path}: cannot be read as an image ({why_unreadable(path, error)}); replace it") from error


def resize_photo(image: np.ndarray, side: int) -> np.ndarray:
    """Warp a decoded photo to a square.

    Args:
        image: (H, W, 3) uint8 RGB.
        side: of the square, in pixels.

    Returns:
        (side, side, 3) uint8 RGB.
    """
    if image.shape[:2] == (side, side):
        return image
    return np.array(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
