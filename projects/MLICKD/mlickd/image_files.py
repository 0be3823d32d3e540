"""Opening image files that may be made to do harm.

This file imports nothing of Detectron2's, for who uses an exported student has none.
"""

from __future__ import annotations

import io
import os
import warnings
from functools import cache

from PIL import Image

from mlickd.errors import InputError

__all__ = ["LIMIT_VARIABLE", "most_pixels", "open_picture", "too_large"]

LIMIT_VARIABLE = "MLICKD_MAX_PIXELS"

# The formats of photos. Pillow knows others that are programs (EPS), which it runs.
_FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000")

# Of an image of more than half of what is read; too large ones are errors here.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def most_pixels() -> float:
    """How many pixels an image may have: $MLICKD_MAX_PIXELS, else what Pillow takes, 179 million.

    Raises:
        InputError: the variable is no positive number.
    """
    given = os.environ.get(LIMIT_VARIABLE)
    if given is None:
        return 2 * Image.MAX_IMAGE_PIXELS if Image.MAX_IMAGE_PIXELS else float("inf")
    if not given.isdecimal() or int(given) == 0:
        raise InputError(
            f"{LIMIT_VARIABLE} {given!r}: is no number of pixels; give one, such as 400000000, or unset it"
        )
    return int(given)


def open_picture(file: str | os.PathLike[str] | io.BytesIO) -> Image.Image:
    """As Pillow's ``Image.open``, for the formats of photos alone, and of a size that can be decoded safely.

    The size is judged by the header: a file of some kilobytes can hold more pixels than fit into memory.

    Raises:
        Image.DecompressionBombError: it has more pixels than :func:`most_pixels`.
        InputError: as for :func:`most_pixels`.
        OSError: it is missing or in no known format.
    """
    limit = most_pixels()
    if Image.MAX_IMAGE_PIXELS and limit > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = int(limit) // 2 + 1  # the user has allowed it
    image = Image.open(file, formats=_known_formats())
    if image.width * image.height > limit:
        image.close()
        raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels")
    return image


def too_large(path: object) -> str:
    """What to say of an image file that `open_picture` has refused for its size, on one line."""
    return (
        f"{path}: has more than {most_pixels() / 1e6:.0f} million pixels, which may be meant to fill the memory; "
        f"shrink the image, or set {LIMIT_VARIABLE} to as many as you allow"
    )


@cache
def _known_formats() -> tuple[str, ...]:
    Image.init()  # finds out which ones this Pillow was built with
    return tuple(name for name in _FORMATS if name in Image.OPEN)
