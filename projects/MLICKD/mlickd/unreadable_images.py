"""Why an image file cannot be read, in words that help more than those of a decoder.

This file imports nothing of Detectron2's, for who uses an exported student has none.
"""

from __future__ import annotations

import os

from PIL import UnidentifiedImageError

__all__ = ["why_unreadable"]

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
