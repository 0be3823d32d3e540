"""From a photo as a user has it to a record."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from mlickd.data.orientation import orientation, upright
from mlickd.data.reading import DecodedImage, to_rgb
from mlickd.errors import InputError

__all__ = ["Photo", "photo_record"]

# A path, a picture of Pillow, or an array (H, W, 3) uint8 RGB.
Photo = str | os.PathLike | Image.Image | np.ndarray


def photo_record(photo: Photo, number: int) -> dict:
    """What a mapper takes: ``image_id``, the name of the photo, and its ``file_name`` or its ``pixels``.

    Args:
        photo: a path, whose file is not looked at yet; a picture of Pillow, which is turned as its EXIF orientation
            says; or an array (H, W, 3) uint8 RGB.
        number: of the photo among those that were given, from 1, for the name of what has no path.

    Raises:
        InputError: it is none of these, or cannot be read.
    """
    if isinstance(photo, (str, os.PathLike)):
        return {"image_id": os.fspath(photo), "file_name": os.fspath(photo)}
    name = f"image {number}"
    if isinstance(photo, Image.Image):
        try:
            return {"image_id": name, "pixels": np.array(upright(to_rgb(photo), orientation(photo)))}
        except Exception as error:  # decoders fail in many ways on damaged data
            raise InputError(f"{name}: cannot be read as an image ({error}); replace it") from error
    if isinstance(photo, np.ndarray):
        try:
            DecodedImage(photo)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        return {"image_id": name, "pixels": photo}
    raise InputError(f"{name}: is of type {type(photo).__name__}; give a path, a picture of Pillow or an array")
