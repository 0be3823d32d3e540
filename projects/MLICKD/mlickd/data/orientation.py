"""The EXIF orientation: how a stored picture is turned to stand upright."""

from __future__ import annotations

from PIL import ExifTags, Image

__all__ = ["orientation", "upright", "upright_size"]

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of an opened image, 1 to 8; 1, upright, where there is none."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # as Detectron2: damaged EXIF counts as none
        return 1
    return value if value in _TURNS else 1


def upright(image: Image.Image, exif_orientation: int) -> Image.Image:
    """The image turned as its EXIF orientation, 1 to 8, says."""
    turn = _TURNS.get(exif_orientation)
    return image if turn is None else image.transpose(turn)


def upright_size(height: int, width: int, exif_orientation: int) -> tuple[int, int]:
    """(height, width) of an image of this stored size once it is turned."""
    return (width, height) if exif_orientation in (5, 6, 7, 8) else (height, width)
