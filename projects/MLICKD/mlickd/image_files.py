"""Open image files safely, and say why one cannot be read.

This module does not import Detectron2, because a user of an exported student may not have it.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache

from PIL import Image, UnidentifiedImageError

from mlickd.errors import InputError

__all__ = [
    "LIMIT_VARIABLE",
    "most_pixels",
    "open_image_file",
    "too_large",
    "why_unreadable",
]

LIMIT_VARIABLE = "MLICKD_MAX_PIXELS"

# The formats of photos. Pillow knows others that are programs (EPS), which it runs.
_FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000")


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


@contextmanager
def open_image_file(file: str | os.PathLike[str] | io.BytesIO) -> Iterator[Image.Image]:
    """As ``with`` Pillow's ``Image.open``, for the formats of photos alone, and of a size that can be decoded safely.

    The size is judged by the header: a file of some kilobytes can hold more pixels than fit into memory. Decode the
    image before the block ends.

    Raises:
        Image.DecompressionBombError: it has more pixels than :func:`most_pixels`.
        InputError: as for :func:`most_pixels`.
        OSError: it is missing or in no known format.
    """
    limit = most_pixels()
    allowed = _pillow_limit.at_least(limit) if LIMIT_VARIABLE in os.environ else nullcontext()
    with allowed, Image.open(file, formats=_known_formats()) as image:
        if image.width * image.height > limit:
            raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels")
        yield image


class _PillowLimit:
    """Pillow's own limit, raised as long as a picture is open for which the user has allowed more.

    Pillow takes it from nowhere but the variable of its module, and looks there on decoding a TIFF, too. What else a
    program opens with Pillow has its own limit again afterwards.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pictures = 0
        self._own: int | None = None

    def forget(self) -> None:
        """In a process that has been forked: nothing is open there."""
        if self._pictures:
            Image.MAX_IMAGE_PIXELS = self._own
        self._lock = threading.Lock()
        self._pictures = 0

    @contextmanager
    def at_least(self, limit: float) -> Iterator[None]:
        """
        Args:
            limit: pixels that Pillow is to take. It refuses what has more than twice its variable.
        """
        with self._lock:
            if self._pictures == 0:
                self._own = Image.MAX_IMAGE_PIXELS
            self._pictures += 1
            if Image.MAX_IMAGE_PIXELS is not None:
                Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, int(limit) // 2 + 1)
        try:
            yield
        finally:
            with self._lock:
                self._pictures -= 1
                if self._pictures == 0:
                    Image.MAX_IMAGE_PIXELS = self._own


_pillow_limit = _PillowLimit()
if hasattr(os, "register_at_fork"):
    # Another thread may have a picture open while this one forks, which the new process does not have.
    os.register_at_fork(after_in_child=_pillow_limit.forget)


def too_large(path: object) -> str:
    """What to say of an image file that `open_image_file` has refused for its size, on one line."""
    return (
        f"{path}: has more than {most_pixels() / 1e6:.0f} million pixels, which may be meant to fill the memory; "
        f"shrink the image, or set {LIMIT_VARIABLE} to as many as you allow"
    )


@cache
def _known_formats() -> tuple[str, ...]:
    Image.init()  # finds out which ones this Pillow was built with
    return tuple(name for name in _FORMATS if name in Image.OPEN)


# ISO 14496-12, "ftyp": the brands of HEIF in bytes 8 to 12 of a file. Phones write it, and Pillow does not read it.
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")


def why_unreadable(path: str | os.PathLike[str], error: Exception) -> str:
    """
    Args:
        path: of the file.
        error: that reading it has raised.

    Returns:
        The reason on one line, for the middle of a message.
    """
    if os.path.isdir(path):
        return "it is a folder"
    if not isinstance(error, UnidentifiedImageError):
        return str(error)
    with open(path, "rb") as file:
        start = file.read(12)
    if not start:
        return "it is empty"
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF:
        return "it is HEIC, which has to be converted to JPEG"
    return "it is in no format of photos"
