"""Photos with what teacher and students say of them: one file that opens in a browser, from disk, without a network."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from tqdm import tqdm

from mlickd.data.images import read_image
from mlickd.errors import InputError

from .gallery_data import EDGE, first_region_threshold, photo_data
from .pages import inline_file, page_template, write_page
from .result_figure import draw_result_figure
from .results import ImageResult

__all__ = ["make_folder", "safe_file_name", "write_gallery", "write_result_figures"]

# Longer side of a photo in the page, in pixels: up to this many photos the largest, then less, so that a page of 1,000
# photos has some 40 MB, and never less than what a phone shows.
LARGEST_SIDE = 768
PHOTOS_OF_LARGEST_SIDE = 200
SMALLEST_SIDE = 400
QUALITY = 78
# Filters that there are with so many students, in the order of the buttons.
OUTCOMES = {
    0: {},
    1: {"right": "Right", "wrong": "Wrong"},
    2: {
        "fixed": "Fixed by distillation",
        "broken": "Broken by distillation",
        "both-right": "Both right",
        "both-wrong": "Both wrong",
    },
}


def write_gallery(
    results: Sequence[ImageResult],
    class_names: Sequence[str],
    output_dir: str | Path,
    *,
    title: str,
    mean_average_precision: Mapping[str, float] | None = None,
    thresholds: Mapping[str, np.ndarray | float] | None = None,
) -> Path:
    """Write ``index.html``, with everything in it, into a folder, which is created.

    Args:
        results: of the images, in the order of the page, with different ids.
        class_names: C names.
        output_dir: the folder. The page of an earlier gallery is replaced.
        title: of the page.
        mean_average_precision: percent by the name of the model, for the header.
        thresholds: by the title of the student, (C,) or one for all classes: where it predicts, to be marked.

    Returns:
        Path of ``index.html``.

    Raises:
        InputError: there is no result, an image cannot be read, the folder cannot be written.
    """
    if not results:
        raise InputError(f"gallery {output_dir}: there is no image to show; choose at least one")
    index = make_folder(output_dir) / "index.html"
    side = photo_side(len(results))
    photos, pictures = [], []
    for result in tqdm(results, desc="gallery", unit="photo"):
        image = Image.fromarray(read_image(result.file_name))
        photos.append(photo_data(result, class_names, image.size))
        pictures.append(_picture(image, side))
    students = max((list(result.students) for result in results), key=len)
    thresholds = thresholds or {}
    data = {
        "classes": list(class_names),
        "students": students,
        "thresholds": [
            np.broadcast_to(thresholds[student], len(class_names)).round(4).tolist() if student in thresholds else None
            for student in students
        ],
        "outcomes": {} if all(result.labels is None for result in results) else OUTCOMES[len(students)],
        "edge": EDGE,
        "firstThreshold": first_region_threshold(photos),
        "photos": photos,
    }
    page = page_template("gallery.html").render(
        title=title,
        data=data,
        pictures=pictures,
        mean_average_precision=dict(mean_average_precision or {}),
        has_regions=any(result.regions is not None for result in results),
        has_maps=any(result.activations for result in results),
        style=inline_file("gallery.css"),
        script=inline_file("gallery.js"),
    )
    write_page(index, page)
    return index


def write_result_figures(
    results: Sequence[ImageResult], class_names: Sequence[str], output_dir: str | Path, *, top_k: int = 10
) -> list[Path]:
    """Write the paper's result figure of each image as ``<number>-<name>.png`` into a folder, which is created.

    Args:
        results: of the images.
        class_names: C names, for the regions.
        output_dir: the folder.
        top_k: regions drawn.

    Raises:
        InputError: an image cannot be read, the folder cannot be written.
    """
    folder = make_folder(output_dir)
    paths = []
    for number, result in enumerate(tqdm(results, desc="figures", unit="photo"), start=1):
        paths.append(folder / f"{safe_file_name(number, result.image_id)}.png")
        draw_result_figure(result, class_names, top_k=top_k).save(paths[-1])
    return paths


def photo_side(count: int) -> int:
    """Longer side in pixels of each of ``count`` photos."""
    side = LARGEST_SIDE * (PHOTOS_OF_LARGEST_SIDE / max(count, PHOTOS_OF_LARGEST_SIDE)) ** 0.5
    return max(SMALLEST_SIDE, round(side))


def safe_file_name(number: int, image_id: str) -> str:
    """A file name without suffix, unique by its number, that is the same on every file system whatever the id is."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", PurePosixPath(image_id).stem).strip("-")
    return f"{number:04d}-{stem[:60]}".rstrip("-")


def make_folder(path: str | Path) -> Path:
    """Make a folder, where it is not there yet.

    Raises:
        InputError: it cannot be made.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"gallery {folder}: {error.strerror}; give another folder") from error
    return folder


def _picture(image: Image.Image, side: int) -> str:
    """A photo as the page has it: WebP, not above a longer side, in base64."""
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=QUALITY)
    return base64.b64encode(stream.getvalue()).decode()
