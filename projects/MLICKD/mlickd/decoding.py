"""Decode images for training, evaluation and prediction, so that all of them see the same pixels."""

import os

import numpy as np
import simplejpeg
from PIL import Image, TiffImagePlugin

from mlickd.errors import InputError
from mlickd.safe_images import TURNS, exif_orientation, max_pixels, open_image_file


class RecordImage:
    """The image of a record. The size is known before the pixels are decoded.

    libjpeg-turbo can decode a JPEG at 1/2, 1/4 or 1/8 of its size. It then reads only a part of the DCT
    coefficients, which is faster and does not alias. Pillow decodes all other formats, CMYK, and corrupt files.

    The EXIF orientation turns the pixels upright. They equal the pixels of
    `detectron2.data.detection_utils.read_image`, except for three kinds of images: 16-bit gray is scaled to 8 bits
    (Detectron2 makes all values above 255 white), transparent pixels are blended with white (Detectron2 shows their
    hidden color), and a TIFF is turned once (Detectron2 turns it again after Pillow).

    Attributes:
        height, width: size of the whole upright image, in pixels.
    """

    def __init__(self, record: dict, image_format: str = "RGB", *, check_size: bool = False):
        """
        Args:
            record: dict with ``file_name`` or with ``pixels``, (H, W, 3) uint8 RGB. Only the first frame of a file is
                read.
            image_format: order of the channels of :meth:`decode`, ``RGB`` or ``BGR``.
            check_size: whether the image must have the ``height`` and ``width`` of the record, if the record has them.

        Raises:
            InputError: the file is missing, corrupt, too large or not an image; its pixels have an unknown range;
                ``pixels`` has another shape or dtype; or the size differs from the record.
        """
        self._path = record.get("file_name")
        self._format = image_format
        self._decoded: dict[int, np.ndarray] = {}  # by reduction
        self._jpeg: bytes | None = None
        self._orientation = 1
        if "pixels" in record:
            pixels = record["pixels"]
            if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
                raise InputError(f"{pixels.dtype} array of shape {pixels.shape}: give uint8 RGB of shape (H, W, 3)")
            self._keep(pixels)
        else:
            self._read_jpeg()
        if self._jpeg is None:
            self.height, self.width = self.decode()[0].shape[:2]
        height, width = record.get("height", self.height), record.get("width", self.width)
        if check_size and (height, width) != (self.height, self.width):
            raise InputError(
                f"{self._path}: the image has {self.width}x{self.height} pixels, but its record says {width}x{height}; "
                "correct the record and its boxes, or replace the image"
            )

    def _read_jpeg(self) -> None:
        """Read the file and its size if it is a JPEG that libjpeg-turbo can decode."""
        try:
            with open(self._path, "rb", buffering=0) as file:
                data = file.read()
            height, width, color_space, _ = simplejpeg.decode_jpeg_header(data)
            if _may_have_orientation(data):
                with open_image_file(self._path) as image:
                    self._orientation = exif_orientation(image)
        except (OSError, ValueError, InputError):
            return
        # Leave CMYK to Pillow, which corrects the inverted colors that some programs store.
        if color_space in ("YCbCr", "RGB", "Gray") and height * width <= max_pixels():
            self._jpeg = data
            self.height, self.width = _upright_size(height, width, self._orientation)

    def decode(self, reduction: int = 1) -> tuple[np.ndarray, int]:
        """Decode the pixels, with reduced sides if the file allows it.

        Args:
            reduction: 1, 2, 4 or 8, the largest factor by which the sides may be reduced.

        Returns:
            (ceil(height / r), ceil(width / r), 3) uint8, contiguous, and the factor r. Repeated calls return the same
            array.

        Raises:
            InputError: the file is corrupt.
        """
        reduction = reduction if self._jpeg else 1
        # If a side is not a multiple of the factor, its last reduced pixel is incomplete. Turning the image could move
        # this pixel to the start of the side, and so shift all others.
        while self._orientation != 1 and reduction > 1 and (self.height % reduction or self.width % reduction):
            reduction //= 2
        if reduction not in self._decoded and self._jpeg:
            try:
                stored = _upright_size(self.height, self.width, self._orientation)
                # The decoder chooses the smallest of its sizes that is at least this large.
                height, width = (-(-side // reduction) if reduction > 1 else 0 for side in stored)
                pixels = simplejpeg.decode_jpeg(self._jpeg, self._format, min_height=height, min_width=width)
                if self._orientation != 1:
                    pixels = np.array(Image.fromarray(pixels).transpose(TURNS[self._orientation]))
                self._decoded[reduction] = pixels
            except ValueError:
                # Pillow ignores harmless errors in a file, and its message describes other errors.
                self._jpeg, self._decoded, reduction = None, {}, 1
        if reduction not in self._decoded:
            with open_image_file(self._path) as image:
                self._keep(np.array(upright_rgb(image)))
        return self._decoded[reduction], reduction

    def _keep(self, pixels: np.ndarray) -> None:
        pixels = pixels if self._format == "RGB" else pixels[..., ::-1]
        # PyTorch warns about arrays that are not writable.
        self._decoded[1] = np.require(pixels, requirements=["C", "W"])


def _may_have_orientation(data: bytes) -> bool:
    """Return whether a JPEG has an APP1 (EXIF) segment, much faster than Pillow does."""
    place = 2
    while (marker := data[place : place + 2])[:1] == b"\xff" and marker not in (b"\xff\xe1", b"\xff\xda"):
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return marker != b"\xff\xda"  # the start of the pixels


def max_reduction(height: int, width: int, side: int) -> int:
    """Return the largest factor (1, 2, 4 or 8) that keeps a part of an image at least as large as a square."""
    return max((factor for factor in (2, 4, 8) if min(height, width) >= factor * side), default=1)


def read_square(record: dict, side: int) -> np.ndarray:
    """Return the image of a record, warped to (side, side, 3) uint8 RGB, the input of an exported student."""
    image = RecordImage(record)
    pixels, reduction = image.decode(max_reduction(image.height, image.width, side))
    box = (0, 0, image.width / reduction, image.height / reduction)
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR, box=box))


def read_image(path: str | os.PathLike[str], image_format: str = "RGB") -> np.ndarray:
    """Return the (H, W, 3) uint8 pixels of an image file; see :class:`RecordImage`."""
    return RecordImage({"file_name": path}, image_format).decode()[0]


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return (height, width) of the upright image in a file.

    Raises:
        InputError: the file is missing or is not an image.
    """
    with open_image_file(path, decode=False) as image:
        return _upright_size(image.height, image.width, exif_orientation(image))


def upright_rgb(image: Image.Image) -> Image.Image:
    """Return an opened image in 8-bit RGB, turned upright by its EXIF orientation.

    Raises:
        ValueError: the pixels are 32-bit numbers of unknown range.
    """
    orientation = exif_orientation(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        # Keep the upper 8 bits, as Pillow does for 16-bit color. A TIFF may have fewer bits than 16.
        bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0] if image.format == "TIFF" else 16
        image = Image.fromarray((np.asarray(image) >> (bits - 8)).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"the range of 32-bit pixels (mode {image.mode}) is unknown; save the image with 8 or 16 bits")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    return image if orientation == 1 else image.transpose(TURNS[orientation])


def _upright_size(height: int, width: int, orientation: int) -> tuple[int, int]:
    """Return (height, width) after a stored image is turned upright, or before an upright image was turned."""
    return (width, height) if orientation >= 5 else (height, width)
