"""Open image files of unknown origin safely: only photo formats, and not too many pixels.

This module does not import Detectron2, because exported students also run without it.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from PIL import Image, UnidentifiedImageError

from mlickd.errors import InputError

LIMIT_VARIABLE = "MLICKD_MAX_PIXELS"

# Photo formats. Pillow also opens EPS files, but these are programs, which it runs.
_FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000")

# Bytes 4 to 11 of a HEIF file (ISO 14496-12). Phones write this format, but Pillow does not read it.
_HEIF = tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"))


def max_pixels() -> float:
    """Return the maximum number of pixels of an image: $MLICKD_MAX_PIXELS (default: Pillow's limit, 179 million).

    Raises:
        InputError: the variable is not a positive integer.
    """
    limit = os.environ.get(LIMIT_VARIABLE)
    if limit is None:
        return 2 * Image.MAX_IMAGE_PIXELS if Image.MAX_IMAGE_PIXELS else float("inf")
    if not limit.isdecimal() or int(limit) == 0:
        raise InputError(f"{LIMIT_VARIABLE} {limit!r}: is not a number of pixels, such as 400000000")
    return int(limit)


@contextmanager
def open_image_file(file: str | os.PathLike[str] | io.BytesIO) -> Iterator[Image.Image]:
    """Open an image file with Pillow if it has a photo format and a size that is safe to decode.

    The size is checked before decoding, because a file of a few kilobytes can expand to more than the available
    memory. Decode the image inside the ``with`` block: an error there becomes an InputError, too.

    Raises:
        InputError: the file is missing, corrupt, not a photo, or too large.
    """
    limit = max_pixels()
    if LIMIT_VARIABLE in os.environ and Image.MAX_IMAGE_PIXELS is not None:
        # Pillow refuses images with more than twice this number, and checks a TIFF again when it decodes it.
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, int(limit) // 2 + 1)
    try:
        with Image.open(file, formats=_known_formats()) as image:
            if image.width * image.height > limit:
                raise Image.DecompressionBombError
            yield image
    except FileNotFoundError:
        raise InputError(f"{file}: image file not found; check the path") from None
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{file}: has more than {limit / 1e6:.0f} million pixels (a possible decompression bomb); "
            f"shrink the image, or raise the limit with {LIMIT_VARIABLE}"
        ) from error
    except Exception as error:  # corrupt data raises many types of errors
        raise InputError(f"{file}: cannot be read as an image ({_reason(file, error)}); replace it") from error


@cache
def _known_formats() -> tuple[str, ...]:
    Image.init()  # fills Image.OPEN with the formats that this build of Pillow reads
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _reason(file: str | os.PathLike[str] | io.BytesIO, error: Exception) -> str:
    if isinstance(file, io.BytesIO) or not isinstance(error, UnidentifiedImageError):
        return str(error)
    with open(file, "rb") as content:
        start = content.read(12)
    if not start:
        return "the file is empty"
    return "HEIC; convert it to JPEG" if start[4:] in _HEIF else "not in a photo format"
