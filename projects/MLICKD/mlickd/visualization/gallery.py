"""A folder of results that opens in a browser, from disk and without a network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from PIL import Image
from tqdm import tqdm

from mlickd.data.reading import read_image
from mlickd.errors import InputError

from .pages import page_template
from .regions import draw_regions, top_regions
from .result_figure import MARKS, draw_result_figure
from .results import ImageResult, format_score

__all__ = ["safe_file_name", "write_gallery"]

# Longer side of a photo in the gallery, in pixels; less than a phone shows is too little, more takes long to load.
PHOTO_SIDE = 768
# Filters and the outcomes of ImageResult, in the order of the buttons.
OUTCOMES = {
    "fixed": "Fixed by distillation",
    "broken": "Broken by distillation",
    "both-right": "Both right",
    "both-wrong": "Both wrong",
    "right": "Right",
    "wrong": "Wrong",
}
VERDICTS = {True: "right", False: "wrong", None: "uncounted"}


def write_gallery(
    results: Sequence[ImageResult],
    class_names: Sequence[str],
    output_dir: str | Path,
    *,
    title: str,
    mean_average_precision: Mapping[str, float] | None = None,
    top_k: int = 10,
) -> Path:
    """Write ``index.html`` and, for each image, ``photos/*.jpg`` (photo with regions) and ``figures/*.png`` (the
    result figure) into a folder, which is created.

    Args:
        results: of the images, in the order of the page.
        class_names: C names, for the regions.
        output_dir: the folder. Files of an earlier gallery with the same names are replaced.
        title: of the page.
        mean_average_precision: percent by the name of the model, for the header.
        top_k: regions drawn.

    Returns:
        Path of ``index.html``.

    Raises:
        InputError: there is no result, an image cannot be read, the folder cannot be written.
    """
    if not results:
        raise InputError(f"gallery {output_dir}: there is no image to show; choose at least one")
    output_dir = Path(output_dir)
    try:
        for folder in ("photos", "figures"):
            (output_dir / folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"gallery {output_dir}: {error.strerror}; give another folder") from error
    cards = [
        _write_card(number, result, class_names, output_dir, top_k)
        for number, result in enumerate(tqdm(results, desc="gallery", unit="photo"), start=1)
    ]
    page = page_template("gallery.html").render(
        title=title,
        cards=cards,
        filters=_filters(results),
        mean_average_precision=dict(mean_average_precision or {}),
        has_regions=any(result.regions is not None for result in results),
        top_k=top_k,
    )
    index = output_dir / "index.html"
    index.write_text(page, encoding="utf-8")
    return index


def safe_file_name(number: int, image_id: str) -> str:
    """A file name without suffix, unique by its number, that is the same on every file system whatever the id is."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", PurePosixPath(image_id).stem).strip("-")
    return f"{number:04d}-{stem[:60]}".rstrip("-")


def _write_card(number: int, result: ImageResult, class_names: Sequence[str], output_dir: Path, top_k: int) -> dict:
    """Write the pictures of a result and give what the page says of it."""
    name = safe_file_name(number, result.image_id)
    image = read_image(result.file_name)
    photo = Image.fromarray(draw_regions(image, result.regions, class_names, top_k=top_k, side=PHOTO_SIDE))
    photo.save(output_dir / "photos" / f"{name}.jpg", quality=88)
    draw_result_figure(result, class_names, top_k=top_k).save(output_dir / "figures" / f"{name}.png")
    return {
        "image_id": result.image_id,
        "photo": f"photos/{name}.jpg",
        "figure": f"figures/{name}.png",
        "width": photo.width,
        "height": photo.height,
        "alt": _alternative_text(result, class_names, top_k),
        "labels": result.labels,
        "outcome": result.outcome,
        "outcome_text": OUTCOMES.get(result.outcome),
        "students": {
            student: [
                {
                    "name": prediction.class_name,
                    "score": format_score(prediction.score),
                    "percent": round(100 * min(max(prediction.score, 0.0), 1.0), 1),
                    "verdict": VERDICTS[prediction.correct],
                    "mark": MARKS[prediction.correct],
                }
                for prediction in predictions
            ]
            for student, predictions in result.students.items()
        },
    }


def _alternative_text(result: ImageResult, class_names: Sequence[str], top_k: int) -> str:
    text = f"Photo {result.image_id}"
    if result.regions is None:
        return text
    regions = top_regions(result.regions, top_k)
    names = [
        f"{class_names[category]} {format_score(score)}"
        for category, score in zip(regions.pred_classes.tolist(), regions.scores.tolist(), strict=True)
    ]
    return f"{text}, regions of the teacher: {', '.join(names) or 'none'}"


def _filters(results: Sequence[ImageResult]) -> dict[str, tuple[str, int]]:
    """Text and number of images of each outcome that there can be, given the students that were run and the labels."""
    if all(result.labels is None for result in results):
        return {}
    outcomes = {0: (), 1: ("right", "wrong"), 2: ("fixed", "broken", "both-right", "both-wrong")}
    counts = Counter(result.outcome for result in results)
    return {
        outcome: (OUTCOMES[outcome], counts[outcome])
        for outcome in outcomes[max(len(result.students) for result in results)]
    }
