"""Reading the pixels of an image: one function, so that whoever looks at an image sees the same."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from mlickd.errors import InputError
from mlickd.image_files import open_image_file, too_large, why_unreadable

from .jpeg import Jpeg
from .orientation import orientation, upright

__all__ = ["DecodedImage", "ImageFile", "has_alpha", "open_image", "read_image", "to_rgb"]


class ImageFile:
    """An image file whose size is known first, so that its pixels can be decoded at the size that is needed.

    The pixels are turned as the EXIF orientation says. They are those of
    `detectron2.data.detection_utils.read_image` but for two kinds of images, which that function spoils: 16-bit gray
    is scaled to 8 bits (there everything above 255 becomes white), and what is transparent is laid on white (there the
    hidden color appears, whatever the program that made the file has left).

    Attributes:
        height, width: of the whole image, in pixels.
    """

    def __init__(self, path: str | os.PathLike[str], image_format: str = "RGB"):
        """
        Args:
            path: of the file. Of several frames the first is taken.
            image_format: ``RGB`` or ``BGR``.

        Raises:
            InputError: the file is missing, damaged, no image, too large to be safe, or has pixels of unknown range.
        """
        self._path = path
        self._format = image_format
        self._decoded: dict[int, np.ndarray] = {}
        self._jpeg = self._open_jpeg()
        if self._jpeg is None:
            self._decoded[1] = self._decode_whole()
            self.height, self.width = self._decoded[1].shape[:2]
        else:
            self.height, self.width = self._jpeg.height, self._jpeg.width

    def pixels(self, reduction: int = 1) -> tuple[np.ndarray, int]:
        """The pixels, of a JPEG at a fraction of its size if that will do.

        Args:
            reduction: 1, 2, 4 or 8: as many pixels of the image, each way, may become one.

        Returns:
            (ceil(height / r), ceil(width / r), 3) uint8, contiguous, and r, at most ``reduction``. The same array comes
            again if asked for again.

        Raises:
            InputError: the file is damaged.
        """
        if self._jpeg is None:
            return self._decoded[1], 1
        reduction = self._jpeg.possible_reduction(reduction)
        if reduction not in self._decoded:
            try:
                self._decoded[reduction] = self._jpeg.pixels(self._format, reduction)
            except ValueError:
                # Pillow tells what is wrong, or overlooks what is harmless.
                self._jpeg = None
                self._decoded = {1: self._decode_whole()}
                return self._decoded[1], 1
        return self._decoded[reduction], reduction

    def _open_jpeg(self) -> Jpeg | None:
        try:
            with open(self._path, "rb", buffering=0) as file:
                return Jpeg.parse(file.read())
        except FileNotFoundError:
            raise InputError(f"{self._path}: image file not found; put it there") from None
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL
            raise self._unreadable(error) from error

    def _decode_whole(self) -> np.ndarray:
        try:
            with open_image_file(self._path) as image:
                pixels = np.array(upright(to_rgb(image), orientation(image)))
        except Image.DecompressionBombError as error:
            raise InputError(too_large(self._path)) from error
        except Exception as error:  # decoders fail in many ways on damaged data
            raise self._unreadable(error) from error
        return pixels if self._format == "RGB" else np.ascontiguousarray(pixels[..., ::-1])

    def _unreadable(self, error: Exception) -> InputError:
        return InputError(f"{self._path}: cannot be read as an image ({why_unreadable(self._path, error)}); replace it")


class DecodedImage:
    """An image whose pixels are here already; for who takes an :class:`ImageFile`.

    Attributes:
        height, width: in pixels.
    """

    def __init__(self, pixels: np.ndarray, image_format: str = "RGB"):
        """
        Args:
            pixels: (H, W, 3) uint8 RGB, upright.
            image_format: of what :meth:`pixels` gives, ``RGB`` or ``BGR``.

        Raises:
            InputError: they have another shape or type.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise InputError(
                f"is an array of type {pixels.dtype} and shape {pixels.shape}; give (H, W, 3) of uint8 in RGB"
            )
        self.height, self.width = pixels.shape[:2]
        # PyTorch warns of arrays that cannot be written to.
        self._pixels = np.require(pixels if image_format == "RGB" else pixels[..., ::-1], requirements=["C", "W"])

    def pixels(self, reduction: int = 1) -> tuple[np.ndarray, int]:
        """As :meth:`ImageFile.pixels`, of which this is what cannot be reduced."""
        return self._pixels, 1


def open_image(record: dict, image_format: str = "RGB") -> ImageFile | DecodedImage:
    """The image of a record: its ``pixels``, (H, W, 3) uint8 RGB, where it has them, else that of its ``file_name``.

    Raises:
        InputError: as for the two classes.
    """
    if "pixels" in record:
        return DecodedImage(record["pixels"], image_format)
    return ImageFile(record["file_name"], image_format)


def read_image(path: str | os.PathLike[str], image_format: str = "RGB") -> np.ndarray:
    """The (H, W, 3) uint8 pixels of a whole image; arguments and errors as for :class:`ImageFile`."""
    return ImageFile(path, image_format).pixels()[0]


def to_rgb(image: Image.Image) -> Image.Image:
    """An opened image in 8-bit RGB, not turned.

    Raises:
        ValueError: its pixels are 32-bit numbers, whose range the file does not tell.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        # The high byte, as Pillow takes it of 16-bit color.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"32-bit pixels of mode {image.mode}, whose range is unknown; save it with 8 or 16 bits")
    elif has_alpha(image):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def has_alpha(image: Image.Image) -> bool:
    """Whether an opened image has an alpha channel, or a color that counts as transparent."""
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
