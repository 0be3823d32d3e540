"""Reading the pixels of an image: one function, so that whoever looks at an image sees the same."""

from __future__ import annotations

import os

import numpy as np
from PIL import ExifTags, Image

from mlickd.errors import InputError

__all__ = ["has_alpha", "orientation", "read_image", "to_rgb", "upright"]

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: str | os.PathLike[str], image_format: str = "RGB") -> np.ndarray:
    """Decode an image, turned as its EXIF orientation says.

    The pixels are those of `detectron2.data.detection_utils.read_image` but for two kinds of images, which that
    function spoils: 16-bit grey is scaled to 8 bits (there everything above 255 becomes white), and what is transparent
    is laid on white (there the hidden colour appears, whatever the program that made the file has left).

    Args:
        path: of the file. Of several frames the first is taken.
        image_format: ``RGB`` or ``BGR``.

    Returns:
        (H, W, 3) uint8.

    Raises:
        InputError: the file is missing, damaged, no image, too large to be safe, or has pixels of unknown range.
    """
    try:
        with Image.open(path) as image:
            pixels = np.asarray(upright(to_rgb(image), orientation(image)))
    except FileNotFoundError:
        raise InputError(f"{path}: image file not found; put it there") from None
    except Exception as error:  # decoders fail in many ways on damaged data
        raise InputError(f"{path}: cannot be read as an image ({error}); replace it") from error
    return pixels if image_format == "RGB" else pixels[..., ::-1]


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


def to_rgb(image: Image.Image) -> Image.Image:
    """An opened image in 8-bit RGB, not turned.

    Raises:
        ValueError: its pixels are 32-bit numbers, whose range the file does not tell.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        # The high byte, as Pillow takes it of 16-bit colour.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"32-bit pixels of mode {image.mode}, whose range is unknown; save it with 8 or 16 bits")
    elif has_alpha(image):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def has_alpha(image: Image.Image) -> bool:
    """Whether an opened image has an alpha channel, or a colour that counts as transparent."""
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
