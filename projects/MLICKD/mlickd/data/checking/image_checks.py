"""Decode every image of a dataset, and find duplicates by a perceptual hash."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.sparse import csr_array, vstack
from scipy.sparse.csgraph import connected_components

from mlickd.decoding import RecordImage, max_reduction
from mlickd.errors import InputError
from mlickd.files import file_digest
from mlickd.progress import progress
from mlickd.safe_images import collect_notes

# Two images are near-duplicates if at most this number of the 64 bits of their hashes differ. Copies in other formats,
# sizes and qualities differ in 0 to 5 bits. The two most similar of 400 drawn scenes differ in 13 bits.
_MAX_BITS = 6
_HASH_SIDE = 32  # pixels
_BLOCK = 128  # number of images that are compared with all others at once


@dataclass
class CheckedImage:
    """The result of the checks of an image.

    Attributes:
        record: record of the image.
        problem: the reason why the image cannot be used, in one line; None if it can be used.
        notes: lines about metadata that cannot be read.
        digest: SHA-256 of the file of a usable image, in hexadecimal.
        hash: (8,) uint8, the 64 bits of OpenCV's perceptual hash (Zauner, 2010) of a usable image.
    """

    record: dict
    problem: str | None = None
    notes: tuple[str, ...] = ()
    digest: str = ""
    hash: np.ndarray | None = None


def check_images(records: Sequence[dict], num_workers: int | None = None, title: str = "") -> list[CheckedImage]:
    """Decode the image of each record in threads (by default one per core), and check its size and content."""
    with ThreadPoolExecutor(num_workers or os.cpu_count() or 1) as pool:
        return list(progress(pool.map(_check, records), title, "image", len(records)))


def _check(record: dict) -> CheckedImage:
    try:
        with collect_notes() as notes:
            image = RecordImage(record, check_size=True)
            # Decoding a JPEG at a reduced scale still parses the whole file, so truncation is detected.
            pixels, _ = image.decode(max_reduction(image.height, image.width, 2 * _HASH_SIDE))
        digest = file_digest(record["file_name"])
    except (InputError, OSError) as error:
        return CheckedImage(record, str(error))
    small = cv2.resize(pixels, (_HASH_SIDE, _HASH_SIDE), interpolation=cv2.INTER_AREA)
    return CheckedImage(record, None, tuple(dict.fromkeys(notes)), digest, cv2.img_hash.pHash(small)[0])


def equal_files(images: Sequence[CheckedImage], others: Sequence[CheckedImage]) -> Iterator[tuple[dict, dict]]:
    """Yield pairs of records with equal files: the first match in ``images``, and the record in ``others``."""
    first = {image.digest: image.record for image in reversed(images)}
    for other in others:
        match = first.get(other.digest, other.record)
        if match is not other.record:
            yield match, other.record


def near_duplicates(images: Sequence[CheckedImage], others: Sequence[CheckedImage]) -> Iterator[tuple[dict, dict]]:
    """Yield pairs of near-duplicates whose files differ: at most one for each of ``others``.

    The first record of a pair is that of the most similar image in ``images``. If both arguments are the same list,
    only earlier images are compared.
    """
    if not images or not others:
        return
    signs, other_signs = (
        2 * np.unpackbits(np.stack([image.hash for image in split]), axis=1).astype(np.float32) - 1
        for split in (images, others)
    )
    for start in range(0, len(others), _BLOCK):
        agreement = other_signs[start : start + _BLOCK] @ signs.T  # 64 - 2 * number of bits that differ
        for row, other in enumerate(others[start : start + _BLOCK]):
            if images is others:
                agreement[row, start + row :] = -64
            nearest = images[agreement[row].argmax()]
            if agreement[row].max() >= 64 - 2 * _MAX_BITS and nearest.digest != other.digest:
                yield nearest.record, other.record


def near_duplicate_groups(images: Sequence[CheckedImage]) -> np.ndarray:
    """Return the index of each image's group, (N,). Near-duplicates are in one group."""
    hashes, places = np.unique([image.hash for image in images], axis=0, return_inverse=True)
    signs = 2 * np.unpackbits(hashes, axis=1).astype(np.float32) - 1
    blocks = np.split(signs, range(_BLOCK, len(signs), _BLOCK))
    similar = vstack([csr_array(block @ signs.T >= 64 - 2 * _MAX_BITS) for block in blocks])
    return connected_components(similar)[1][places.ravel()]
