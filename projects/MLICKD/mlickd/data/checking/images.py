"""Looking at every image once: what kind it is, and a fingerprint by which its copies are found."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..orientation import orientation, upright
from ..reading import has_alpha, to_rgb
from ..verify import image_problem
from .findings import Finding, counted

__all__ = ["THUMBNAIL", "ImageFacts", "image_findings", "image_kinds", "inspect_images"]

THUMBNAIL = 16  # side in pixels
_ROWS, _COLUMNS = 8, 9  # of the picture whose neighboring pixels are compared


@dataclass
class ImageFacts:
    """What is known of one image.

    Attributes:
        problem: why it cannot be used, on one line; None where it can. Then what follows is known:
        format: ``JPEG``, ``PNG``, ...
        mode: Pillow's mode: ``RGB``, ``L``, ``CMYK``, ``I;16``, ...
        turned: whether its EXIF orientation is another than upright.
        alpha: whether some of it may be transparent.
        height, width: in pixels, after turning.
        digest: SHA-256 of the file.
        hash: 64 bits: whether each of 8 x 8 pixels of the reduced gray image is darker than its right neighbor.
        thumbnail: (16, 16, 3) uint8, turned.
    """

    problem: str | None = None
    format: str = ""
    mode: str = ""
    turned: bool = False
    alpha: bool = False
    height: int = 0
    width: int = 0
    digest: bytes = b""
    hash: int = 0
    thumbnail: np.ndarray | None = None

    def look(self, image: Image.Image, size: tuple[int, int]) -> None:
        """Take what can be seen of a decoded image."""
        self.format, self.mode = image.format or "", image.mode
        self.turned, self.alpha = orientation(image) != 1, has_alpha(image)
        self.height, self.width = size
        seen = upright(to_rgb(image), orientation(image))
        self.thumbnail = np.asarray(seen.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))
        gray = np.asarray(seen.convert("L").resize((_COLUMNS, _ROWS), Image.Resampling.BOX))
        self.hash = int.from_bytes(np.packbits(gray[:, :-1] < gray[:, 1:]).tobytes(), "big")


def inspect_images(records: Sequence[dict], num_workers: int | None = None, title: str = "") -> list[ImageFacts]:
    """Decode the image of every record, with a progress bar.

    Args:
        records: with ``file_name``, and optionally ``height`` and ``width`` in pixels, which are then compared.
        num_workers: threads; None for one for each core.
        title: of the progress bar.
    """
    with warnings.catch_warnings(), ThreadPoolExecutor(num_workers or os.cpu_count() or 1) as pool:
        warnings.simplefilter("ignore")  # Pillow's, of large images and odd metadata; what matters becomes a finding
        results = pool.map(_inspect, records)
        return list(tqdm(results, desc=title, unit="image", total=len(records), mininterval=0.5))


def _inspect(record: dict) -> ImageFacts:
    facts = ImageFacts()
    facts.problem = image_problem(record, facts.look)
    if facts.problem is None:
        facts.digest = hashlib.sha256(Path(record["file_name"]).read_bytes()).digest()
    return facts


def image_kinds(images: Sequence[ImageFacts]) -> dict[str, int]:
    """How many of the readable images are of each kind; kinds that do not occur are left out."""
    kinds: Counter[str] = Counter()
    for image in images:
        if image.problem is None:
            kinds[image.format] += 1
            kinds["turned by EXIF"] += image.turned
            kinds["gray"] += image.mode in ("1", "L", "LA", "La")
            kinds["16-bit gray"] += image.mode.startswith("I")
            kinds["CMYK"] += image.mode == "CMYK"
            kinds["with alpha"] += image.alpha
    return {kind: count for kind, count in kinds.items() if count}


def image_findings(name: str, records: Sequence[dict], images: Sequence[ImageFacts]) -> list[Finding]:
    """Images that cannot be used, or only with care."""
    findings = []

    def add(severity: str, verb: tuple[str, str], rest: str, examples: list[str]) -> None:
        if examples:
            message = counted(len(examples), f"image {verb[0]}", f"images {verb[1]}")
            findings.append(Finding(severity, name, f"{message} {rest}", examples))

    def files(keep) -> list[str]:
        return [record["file_name"] for record, image in zip(records, images, strict=True) if keep(image)]

    add("error", ("cannot", "cannot"), "be used", [image.problem for image in images if image.problem is not None])
    limit = Image.MAX_IMAGE_PIXELS or float("inf")
    add(
        "warning",
        ("has", "have"),
        f"more than {limit / 1e6:.0f} million pixels, which takes memory and time; shrink what is so large",
        files(lambda image: image.height * image.width > limit),
    )
    add("note", ("is", "are"), "partly transparent; training sees that on white", files(lambda image: image.alpha))
    add(
        "note",
        ("is", "are"),
        "16-bit gray; training sees the upper 8 bits",
        files(lambda image: image.problem is None and image.mode.startswith("I")),
    )
    return findings
