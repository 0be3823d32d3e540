"""JPEG at the size that is needed, by libjpeg-turbo."""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
from PIL import Image

from mlickd.image_files import most_pixels, open_image_file

from .orientation import orientation, upright, upright_size

__all__ = ["Jpeg"]

_START = b"\xff\xd8"
_APPLICATION_1, _START_OF_SCAN = 0xE1, 0xDA  # the segment of EXIF or XMP; the one before the pixels
_COLOR_SPACES = ("YCbCr", "RGB", "Gray")


class Jpeg:
    """A JPEG in memory whose header has been read.

    A part of the cosine coefficients of a block gives the block at 1/2, 1/4 or 1/8 of its size, without aliasing, for
    less than the whole block costs.

    Attributes:
        height, width: in pixels, after the EXIF orientation is applied.
    """

    def __init__(self, data: bytes, height: int, width: int, exif_orientation: int):
        """
        Args:
            data: of the whole file.
            height, width: as stored.
            exif_orientation: 1 to 8.
        """
        self._data = data
        self._stored = height, width
        self._orientation = exif_orientation
        self.height, self.width = upright_size(height, width, exif_orientation)

    @classmethod
    def parse(cls, data: bytes) -> Jpeg | None:
        """From the bytes of a file; None where they are no JPEG, or one for Pillow to judge.

        Those are CMYK, whose inks some programs store inverted, and what is damaged or too large to be safe.
        """
        if not data.startswith(_START):
            return None
        try:
            height, width, color_space, _ = simplejpeg.decode_jpeg_header(data)
        except ValueError:
            return None
        if color_space not in _COLOR_SPACES or height * width > most_pixels():
            return None
        if not _may_be_turned(data):
            return cls(data, height, width, exif_orientation=1)
        try:
            with open_image_file(io.BytesIO(data)) as image:
                return cls(data, height, width, orientation(image))
        except Exception:  # Pillow will say it of the file by its name
            return None

    def possible_reduction(self, reduction: int) -> int:
        """``reduction``, or less where it cannot be had.

        Of an image whose size it does not divide the last pixel is not full. Turned, it would come first, and shift the
        others.
        """
        if self._orientation != 1:
            while any(side % reduction for side in self._stored):
                reduction //= 2
        return reduction

    def pixels(self, image_format: str, reduction: int = 1) -> np.ndarray:
        """
        Args:
            image_format: ``RGB`` or ``BGR``.
            reduction: 1, 2, 4 or 8: as many pixels, each way, become one; see :meth:`possible_reduction`.

        Returns:
            (ceil(height / reduction), ceil(width / reduction), 3) uint8.

        Raises:
            ValueError: the data are damaged, though perhaps not so that it matters.
        """
        if reduction == 1:
            pixels = simplejpeg.decode_jpeg(self._data, image_format)
        else:
            height, width = (-(-side // reduction) for side in self._stored)
            # The smallest size that libjpeg has and that is at least this one: it has this one.
            pixels = simplejpeg.decode_jpeg(self._data, image_format, min_height=height, min_width=width)
        if self._orientation != 1:
            pixels = np.array(upright(Image.fromarray(pixels), self._orientation))
        return pixels


def _may_be_turned(data: bytes) -> bool:
    """Whether there is a segment in which an orientation could be; to have Pillow look takes longer than to resize."""
    place = len(_START)
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != _START_OF_SCAN:
        if data[place + 1] == _APPLICATION_1:
            return True
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    # What is not a chain of segments up to the pixels is looked at.
    return data[place : place + 2] != bytes((0xFF, _START_OF_SCAN))
