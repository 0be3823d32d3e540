"""Finding unreadable images before training starts, rather than hours into it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from mlickd.errors import InputError
from mlickd.image_files import open_image_file, too_large, why_unreadable

from .reading import to_rgb
from .records import oriented_size
from .verified_images import VerifiedImages

# JPEG is decoded at an eighth of its sides, but at least at this many pixels.
_REDUCED_SIDE = 32


def verify_images(records: Sequence[dict], num_workers: int | None = None, *, remember: bool = False) -> None:
    """Decode every image once.

    Args:
        records: with `file_name`, and optionally `height` and `width` in pixels, which are then compared.
        num_workers: threads; None for one for each core.
        remember: leave out images that were found good before and have not changed, see `VerifiedImages`.

    Raises:
        InputError: naming the first file, in the order of the records, that is missing, is not an image, is
            truncated, or does not have the size of its record.
    """
    verified = VerifiedImages() if remember else None
    remaining = verified.unverified(records) if verified else records
    index, problem = next(unreadable_images(remaining, num_workers), (len(remaining), None))
    if verified:
        verified.add(remaining[:index])
    if problem is not None:
        raise InputError(problem)


def unreadable_images(records: Sequence[dict], num_workers: int | None = None) -> Iterator[tuple[int, str]]:
    """Yield (index, problem) of the records whose image cannot be used; arguments as for `verify_images`."""
    with ThreadPoolExecutor(num_workers or os.cpu_count() or 1) as pool:
        try:
            for index, problem in enumerate(pool.map(image_problem, records)):
                if problem is not None:
                    yield index, problem
        finally:
            pool.shutdown(cancel_futures=True)


def image_problem(record: dict, look: Callable[[Image.Image, tuple[int, int]], None] | None = None) -> str | None:
    """What is wrong with the image of a record, on one line; None where nothing is.

    Args:
        record: as for `verify_images`.
        look: called, where the image can be decoded, with the decoded image, not turned and of a JPEG at reduced size,
            and the (height, width) of the whole image after its EXIF orientation is applied.
    """
    path = record["file_name"]
    try:
        with open_image_file(path) as image:
            size = oriented_size(image)
            turned = " with its EXIF orientation" if size != image.size[::-1] else ""
            # JPEG: read all of the file, but compute few of the pixels.
            image.draft(None, (_REDUCED_SIDE, _REDUCED_SIDE))
            image.load()
            if image.mode in ("I", "F"):
                to_rgb(image)  # refuses some of them
            if look is not None:
                look(image, size)
    except FileNotFoundError:
        return f"{path}: image file not found; put it there, or take it out of the dataset"
    except Image.DecompressionBombError:
        return too_large(path)
    except Exception as error:  # decoders fail in many ways on damaged data
        reason = why_unreadable(path, error)
        return f"{path}: unreadable or truncated image ({reason}); replace it, or take it out of the dataset"
    expected = (record.get("height", size[0]), record.get("width", size[1]))
    if size != expected:
        return (
            f"{path}: the image is {size[1]}x{size[0]} pixels{turned}, its record says {expected[1]}x{expected[0]}; "
            "correct the record and its boxes, or put the right image there"
        )
    return None
