"""Open image files of unknown origin safely: only photo formats, and not too many pixels.

Metadata that Pillow cannot read does not make a photo unreadable: it is left out, with a note. This module does not
import Detectron2, because exported students also run without it.
"""

import io
import logging
import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from mlickd.errors import InputError, one_line, shorten_list

LIMIT_VARIABLE = "MLICKD_MAX_PIXELS"

# EXIF orientation of a stored image, and the operation that turns the image upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Notes on the metadata of the images that this thread reads; None if nobody collects them.
_notes: ContextVar[list[str] | None] = ContextVar("notes", default=None)
_log_once = cache(logging.getLogger(__name__).warning)

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
def open_image_file(file: str | os.PathLike[str], *, decode: bool = True) -> Iterator[Image.Image]:
    """Open an image file with Pillow if it has a photo format and a size that is safe to decode.

    The size is checked before decoding, because a file of a few kilobytes can expand to more than the available
    memory. Decode the image inside the ``with`` block: an error there becomes an InputError, too. ``decode=False`` is
    faster if only size and orientation are needed. Metadata that cannot be read is left out. A note is logged once, or
    goes to :func:`collect_notes`.

    Raises:
        InputError: the file is missing, corrupt, not a photo, or too large.
    """
    limit = max_pixels()
    if LIMIT_VARIABLE in os.environ and Image.MAX_IMAGE_PIXELS is not None:
        # Pillow refuses images with more than twice this number, and checks a TIFF again when it decodes it.
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, int(limit) // 2 + 1)
    outer = _notes.get()
    try:
        with collect_notes() as notes, _open(file, limit, decode) as image:
            yield image
    except FileNotFoundError:
        raise InputError(f"{file}: image file not found; check the path") from None
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{file}: has more than {limit / 1e6:.0f} million pixels (a possible decompression bomb); "
            f"shrink the image, or raise the limit with {LIMIT_VARIABLE}"
        ) from error
    except MemoryError as error:
        raise InputError(f"{file}: needs more memory than is free; shrink the image") from error
    except Exception as error:  # corrupt data raises many types of errors
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(
                f"{file}: cannot be opened ({error.strerror}); check its permissions and the disk"
            ) from error
        raise InputError(f"{file}: cannot be read as an image ({_reason(file, error)}); replace it") from error
    if notes:
        reasons = shorten_list(dict.fromkeys(notes), 3)
        note = one_line(InputError(f"{file}: metadata that cannot be read is left out ({reasons})"))
        _log_once(note) if outer is None else outer.append(note)


@contextmanager
def collect_notes() -> Iterator[list[str]]:
    """Yield a list that receives, in place of the log, the notes on metadata of images that this thread reads."""
    token = _notes.set([])
    try:
        yield _notes.get()
    finally:
        _notes.reset(token)


def note_pillow_warnings() -> None:
    """Turn Pillow's warnings about metadata into notes that name the image; hide its other warnings about images."""
    warnings.filterwarnings("always", module=r"PIL\.")  # by default, only the first of several images has a warning
    show = warnings.showwarning

    def note_or_show(message: Warning | str, category: type, filename: str, *others: object) -> None:
        notes = _notes.get()
        if notes is None or os.path.basename(os.path.dirname(filename)) != "PIL":
            show(message, category, filename, *others)
        elif filename.endswith("Plugin.py"):
            notes.append(" ".join(str(message).split()))

    warnings.showwarning = note_or_show


def exif_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of the pixels of an opened image, 1 to 8; 1 (upright) if it is missing or corrupt."""
    if image.format == "TIFF":
        return 1  # Pillow turns the pixels of this format itself, and its size is already upright
    try:
        # Pillow's own method decodes a PNG. Text after the pixels is read already.
        exif = Image.Image.getexif(image) if image.format == "PNG" else image.getexif()
        value, damaged = exif.get(ExifTags.Base.Orientation), not exif and len(image.info.get("exif", "")) > 20
    except Exception:  # like Detectron2
        value, damaged = 1, True
    if damaged and (notes := _notes.get()) is not None:
        notes.append("corrupt EXIF data")
    return value if value in TURNS else 1


def _open(file: str | os.PathLike[str] | io.BytesIO, limit: float, decode: bool) -> Image.Image:
    """Open an image with at most ``limit`` pixels, without its metadata if Pillow cannot open it otherwise."""
    image, parts = None, []
    try:
        image = Image.open(file, formats=_known_formats())
        if image.width * image.height > limit:
            raise Image.DecompressionBombError
        if image.format == "PNG" and (decode or _has_text_after_pixels(file)):
            image.load()
        return image
    except Exception as error:
        if not (isinstance(file, io.BytesIO) or isinstance(error, (FileNotFoundError, Image.DecompressionBombError))):
            parts = _parts(file)
        if image is not None:
            image.close()
        if not any(reason for _, reason in parts):
            raise
    _notes.get().extend(reason for _, reason in parts if reason)
    return _open(io.BytesIO(b"".join(part for part, reason in parts if not reason)), limit, decode=True)


def _has_text_after_pixels(file: str | os.PathLike[str]) -> bool:
    """Return whether a PNG file may have its orientation after the pixels, where only decoding finds it."""
    rest = Path(file).read_bytes().partition(b"IDAT")[2]
    return any(kind in rest for kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"))


def _parts(file: str | os.PathLike[str]) -> list[tuple[bytes, str]]:
    """Return the parts of an image file, each with a reason to leave it out, which is empty for most parts."""
    with open(file, "rb") as content:
        start = content.read(12)
        formats = {b"\x89PNG": _png_parts, b"WEBP": _webp_parts, b"ftypavif": _avif_parts, b"\xff\xd8": _jpeg_parts}
        formats |= {b"GIF8": _gif_parts, b"II*\0": _tiff_parts, b"MM\0*": _tiff_parts}
        for magic, split in formats.items():
            if magic in start:
                return list(split(start + content.read()))
    return []


def _png_parts(data: bytes) -> Iterator[tuple[bytes, str]]:
    """Yield the chunks of a PNG file. Optional chunks that cannot be read have a reason to leave them out."""
    stream, place, kind = PngImagePlugin.PngStream(io.BytesIO(data)), 8, b""
    yield data[:place], ""
    while kind != b"IEND" and place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        part, reason = data[place : place + 12 + length], ""
        optional = kind[:1].islower()  # PNG specification, 5.4
        try:
            if zlib.crc32(part[4:-4]).to_bytes(4, "big") != part[-4:]:
                raise ValueError("wrong checksum")
            stream.fp.seek(place + 8)
            if optional or kind == b"IHDR":
                stream.call(kind, place + 8, length)  # limits the size of compressed text
        except (AttributeError, EOFError):  # a kind that Pillow does not know, or a frame
            pass
        except Exception as error:
            reason = f"{str(kind)[2:-1]}: {error}" if optional else ""
        yield part, reason
        place += len(part)
    yield data[place:], "" if kind == b"IEND" else "cut chunk"


def _jpeg_parts(data: bytes) -> Iterator[tuple[bytes, str]]:
    """Yield the segments of a JPEG file. All metadata is left out, except for EXIF, XMP and the color space."""
    place = 2
    yield data[:place], ""
    while data[place : place + 1] == b"\xff" and (marker := data[place + 1 : place + 2]) not in b"\xda":  # the pixels
        part = data[place : place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")]
        metadata = marker == b"\xfe" or b"\xe0" <= marker <= b"\xef"
        needed = marker == b"\xe1" or marker in (b"\xe0", b"\xee") and len(part) >= 16  # whole JFIF and Adobe segments
        yield part, f"segment {str(part[4:16])[2:-1]}" if metadata and not needed else ""
        place += len(part)
    yield data[place:], ""


def _avif_parts(data: bytes) -> Iterator[tuple[bytes, str]]:
    """Yield an AVIF file whose index calls EXIF data an unknown item, which is not read."""
    index, start, pixels = data.partition(b"mdat")
    yield index.replace(b"Exif", b"skip") + start + pixels, ""
    yield b"", "Exif" if b"Exif" in index else ""


def _webp_parts(data: bytes) -> Iterator[tuple[bytes, str]]:
    """Yield the whole chunks of a WebP file, with their length in its header, and then the cut chunk at its end."""
    start, end = 12, 12
    while end <= len(data):
        start, end = end, end + 8 + (int.from_bytes(data[end + 4 : end + 8], "little") + 1) // 2 * 2
    yield b"RIFF" + (start - 8).to_bytes(4, "little") + data[8:start], ""
    yield data[start:], f"cut {str(data[start : start + 4])[2:-1]}" if data[start:] else ""


def _gif_parts(data: bytes) -> Iterator[tuple[bytes, str]]:
    """Yield a GIF file without comment and application data in front of its first image, which is at the top left."""
    palette = 6 << data[10] % 8 if data[10] & 128 else 0
    # Two searches, because one expression with both would take hours for a hostile file.
    comment = re.compile(rb"[^,]*?(?=![\xfe\xff])").match(data, 13 + palette)
    image = comment and re.compile(rb"!\xf9\x04|,\0{4}").search(data, comment.end())
    start, end = (comment.end(), image.start()) if image else (len(data), len(data))
    yield data[:start] + data[end:], ""
    yield data[start:end], "comment or application data" if image else ""


def _tiff_parts(data: bytes) -> Iterator[tuple[bytes, str]]:
    """Yield a TIFF file in which fields of the first directory are empty if their values are outside of the file."""
    order, fixed, tags = "<" if data[:1] == b"I" else ">", bytearray(data), []
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number, values = struct.unpack_from(f"{order}HHII", data, place)
        size = number * (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8)[kind % 13]  # TIFF 6.0, section 2
        if size > 4 and values + size > len(data):
            fixed[place + 4 : place + 8] = bytes(4)
            tags.append(f"tag {tag}")
    yield bytes(fixed), ""
    yield from ((b"", tag) for tag in tags)


@cache
def _known_formats() -> tuple[str, ...]:
    Image.init()  # fills Image.OPEN with the formats that this build of Pillow reads
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _reason(file: str | os.PathLike[str], error: Exception) -> str:
    if not isinstance(error, UnidentifiedImageError):
        return str(error)
    with open(file, "rb") as content:
        start = content.read(12)
    if not start:
        return "the file is empty"
    return "HEIC; convert it to JPEG" if start[4:] in _HEIF else "not in a photo format"
