"""From the photos of a command line to a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from mlickd.errors import InputError

from .loading import load_model
from .reports import Choice, Report
from .runs import find_student, find_teacher

__all__ = ["predict_photos"]


def predict_photos(
    photos: Sequence[str],
    model: str,
    *,
    config: str | None = None,
    teacher: bool = False,
    threshold: float | None = None,
    choice: Choice | None = None,
    batch_size: int | None = None,
    pictures: Path | None = None,
) -> Report:
    """Predict photos one batch after the other, with a bar in a terminal, and go on where one cannot be read.

    Args:
        photos: paths.
        model: what :func:`mlickd.load_model` takes, or a folder above it; see :mod:`mlickd.prediction.runs`.
        config: of a checkpoint.
        teacher: take the teacher of ``model``.
        threshold: of all classes, in place of those of the model.
        choice: which classes are shown; None shows those that are predicted.
        batch_size: photos at once; None takes what suits the model.
        pictures: new or empty folder for pictures of the photos with what was predicted.

    Raises:
        InputError: the model is not one, an option is wrong, or no photo can be read.
    """
    drawing = None
    if pictures is not None:
        # Drawing takes seconds to import.
        from mlickd.visualization.prediction_figure import PredictionPictures

        drawing = PredictionPictures(pictures)
    if teacher:
        source, config = find_teacher(model)
    else:
        source = find_student(model)
    predictor = load_model(source, config, threshold)
    report = Report(str(source), predictor, choice or Choice())
    for found in tqdm(predictor.predict_each(photos, batch_size), total=len(photos), unit="photo", disable=None):
        if isinstance(found, InputError):
            report.failures.append(str(found))
            continue
        report.predictions.append(found)
        if drawing is not None:
            drawing.write(found, report.choice.of(found))
    if not report.predictions:
        several = f"none of the {len(photos)} photos can be read; the first: " if len(photos) > 1 else ""
        raise InputError(f"{several}{report.failures[0]}")
    return report
