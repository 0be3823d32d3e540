"""The gallery: photos with the results of teacher and students, in one self-contained HTML file."""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from mlickd.decoding import read_image
from mlickd.files import write_atomic
from mlickd.progress import progress

from .image_results import ImageResult
from .regions import color_map, top_regions

# Templates of the pages. They escape all values, and a missing value is an error.
TEMPLATES = Environment(
    loader=PackageLoader("mlickd.visualization"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}

# Longer side of an image in the page, in pixels. Images of large pages are smaller: 1,000 images take about 40 MB.
LARGEST_SIDE = 768
MAX_IMAGES_AT_FULL_SIZE = 200
SMALLEST_SIDE = 400
WEBP_QUALITY = 78
# Maximum number of regions per image in the page.
MAX_REGIONS = 20
# Initial threshold of region scores: shows this number of regions per image on average, but is not above the maximum.
INITIAL_REGIONS_PER_IMAGE = 3
MAX_INITIAL_THRESHOLD = 0.1
# Coordinates of regions are integers from 0 (left, top) to this value (right, bottom).
COORDINATE_MAX = 10_000
# Filters by number of students, in the order of the buttons.
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
    mean_average_precision: Mapping[str, float],
    thresholds: Mapping[str, np.ndarray],
) -> Path:
    """Write ``index.html``, which contains everything.

    Args:
        results: results of at least one image, in the order of the page, with distinct ids.
        class_names: C names.
        output_dir: folder of the page, which is created.
        title: title of the page.
        mean_average_precision: mAP in percent by role, for the header.
        thresholds: (C,) thresholds of each student by role.

    Returns:
        Path of ``index.html``.

    Raises:
        InputError: an image cannot be read, or the page cannot be written.
    """
    side = LARGEST_SIDE * (MAX_IMAGES_AT_FULL_SIZE / max(len(results), MAX_IMAGES_AT_FULL_SIZE)) ** 0.5
    side = max(SMALLEST_SIDE, round(side))
    photos = []
    for result in progress(results, "gallery", "photo"):
        image = Image.fromarray(read_image(result.file_name))
        photos.append(_photo_data(result, class_names, image.size))
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        photos[-1]["image"] = _encode(image, "WEBP", quality=WEBP_QUALITY)
    students = list(results[0].students)
    data = {
        "classes": list(class_names),
        "students": [role.capitalize() for role in students],
        "thresholds": [thresholds[role].round(4).tolist() for role in students],
        "outcomes": {} if all(result.labels is None for result in results) else OUTCOMES[len(students)],
        "edge": COORDINATE_MAX,
        "firstThreshold": _initial_region_threshold(photos),
        "photos": photos,
    }
    page = TEMPLATES.get_template("gallery.html").render(
        title=title,
        data=data,
        mean_average_precision=mean_average_precision,
        has_regions=any(result.regions is not None for result in results),
        has_maps=any(result.activations for result in results),
        style=inline_file("gallery.css"),
        script=inline_file("gallery.js"),
    )
    index = Path(output_dir) / "index.html"
    write_atomic(index, page, "give another folder")
    return index


def inline_file(name: str) -> dict[str, str]:
    """Return the ``text`` of a style sheet or script, and ``source``, its digest for the Content-Security-Policy."""
    text, _, _ = TEMPLATES.loader.get_source(TEMPLATES, name)
    text = text.replace("\r\n", "\n")  # as the browser reads it
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {"text": Markup(text), "source": f"'sha256-{digest}'"}


def _photo_data(result: ImageResult, class_names: Sequence[str], size: tuple[int, int]) -> dict:
    """Return the data of one image for the script of the page; ``size`` is (width, height).

    Returns:
        ``id``, ``width``, ``height``; ``labels``: indices of classes, or None; ``results``: for each student, rows of
        class index, score and :attr:`ClassResult.verdict`; ``maps``: for each student, activation maps by class index;
        ``regions``: rows of class index, score and x0, y0, x1, y1 from 0 to ``COORDINATE_MAX``, or None.
    """
    index = {name: number for number, name in enumerate(class_names)}
    regions = None
    if result.regions is not None:
        best = top_regions(result.regions, MAX_REGIONS)
        boxes = best.pred_boxes.tensor.detach().cpu().numpy().astype(np.float64)
        corners = np.clip(np.rint(boxes * COORDINATE_MAX / np.array([*size, *size])), 0, COORDINATE_MAX).astype(int)
        rows = zip(best.pred_classes.tolist(), best.scores.tolist(), corners.tolist(), strict=True)
        regions = [[category, round(score, 4), *corner] for category, score, corner in rows]
    return {
        "id": result.image_id,
        "width": size[0],
        "height": size[1],
        "labels": None if result.labels is None else [index[label] for label in result.labels],
        "results": [
            [[index[shown.class_name], round(shown.score, 4), shown.verdict] for shown in classes]
            for classes in result.students.values()
        ],
        "maps": [
            {index[name]: _map_data(cells) for name, cells in result.activations.get(role, {}).items()}
            for role in result.students
        ],
        "regions": regions,
    }


def _map_data(cells: np.ndarray) -> dict:
    """Return an (H, W) activation map as a PNG, with its lowest, highest and mean value."""
    numbers = {"low": cells.min(), "high": cells.max(), "mean": cells.mean()}
    return {"image": _encode(color_map(cells), "PNG"), **{name: round(float(x), 3) for name, x in numbers.items()}}


def _encode(image: Image.Image, file_format: str, **options: int) -> str:
    """Return an image file in Base64."""
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return base64.b64encode(stream.getvalue()).decode()


def _initial_region_threshold(photos: Sequence[Mapping]) -> float:
    """Return the initial threshold of region scores: at most 0.1, and low enough for 3 regions per image on average.

    WSDDN's region scores sum to an image score, so with more proposals, the scores and the threshold are lower.

    Args:
        photos: results of :func:`_photo_data`.
    """
    scores = sorted((region[1] for photo in photos for region in photo["regions"] or ()), reverse=True)
    return min([MAX_INITIAL_THRESHOLD, *scores[: INITIAL_REGIONS_PER_IMAGE * len(photos)]])
