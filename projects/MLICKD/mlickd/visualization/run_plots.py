"""The plots of finished runs: teacher, baseline and distilled student, on one dataset."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mlickd.errors import InputError
from mlickd.evaluation.breakdown import conditional_frequencies, dependency_error
from mlickd.evaluation.ranking import micro_precision_recall
from mlickd.evaluation.score_files import ImageScores, read_scores
from mlickd.runs import multilabel_results_path

from .comparison_plots import draw_precision_recall
from .curves import draw_class_differences, draw_training_curves
from .gallery import make_folder
from .label_plots import draw_label_frequencies, draw_region_counts
from .pages import page_template, write_page
from .results import STUDENTS, ImageResult

__all__ = ["remove_run_plots", "stage_folders", "write_run_plots"]

logger = logging.getLogger(__name__)

PAGE = "plots.html"
PLOTS = ("curves", "classes", "precision_recall", "co_occurrence", "regions")

_NAMES = {"teacher": "teacher", "baseline": "baseline", "distilled": "distilled"}


def write_run_plots(
    output_dir: str | Path,
    dataset_name: str,
    folders: Mapping[str, str | Path],
    *,
    class_names: Sequence[str],
    thresholds: Mapping[str, np.ndarray | float],
    results: Sequence[ImageResult] = (),
) -> Path:
    """Write ``plots/*.png``, and ``plots.html``, which has all of them in one file.

    What training and evaluation have left in the folders is read; nothing is run. A plot that something is missing for
    is left out, and the page and the log say why.

    Args:
        output_dir: of both.
        dataset_name: that the runs were evaluated on.
        folders: of the runs by role: ``teacher``, ``baseline``, ``distilled``.
        class_names: C names.
        thresholds: by role of the students, where they predict.
        results: of some images, for the teacher's regions.

    Returns:
        Path of ``plots.html``.

    Raises:
        InputError: a file cannot be written.
    """
    output_dir = Path(output_dir)
    make_folder(output_dir / "plots")
    students = {role: Path(folders[role]) for role in STUDENTS if role in folders}
    drawers: dict[str, tuple[str, Callable[[Path], list[str]]]] = {}
    if students:
        drawers["curves"] = "Training", lambda path: _draw_curves(students, path)
    if len(students) == 2:
        drawers["classes"] = "Average precision of each class", lambda path: _draw_classes(students, dataset_name, path)
    if folders:
        drawers["precision_recall"] = (
            "Precision and recall",
            lambda path: _draw_precision_recall(folders, dataset_name, path),
        )
    if students:
        drawers["co_occurrence"] = (
            "Labels that occur together",
            lambda path: _draw_co_occurrence(students, dataset_name, class_names, thresholds, path),
        )
    if any(result.regions is not None for result in results):
        drawers["regions"] = "The teacher's regions", lambda path: _draw_regions(results, class_names, path)
    plots, missing = [], []
    for name, (title, draw) in drawers.items():
        path = output_dir / "plots" / f"{name}.png"
        try:
            notes = draw(path)
        except InputError as error:
            missing.append(f"{title}: {error}")
            logger.warning("Not drawn: %s", missing[-1])
            continue
        plots.append({"title": title, "picture": base64.b64encode(path.read_bytes()).decode(), "notes": notes})
    page = page_template("plots.html").render(title=f"Plots of {dataset_name}", plots=plots, missing=missing)
    index = output_dir / PAGE
    write_page(index, page)
    return index


def remove_run_plots(output_dir: str | Path) -> None:
    """Remove what :func:`write_run_plots` has left in a folder, which may be of other runs."""
    output_dir = Path(output_dir)
    for path in (output_dir / PAGE, *(output_dir / "plots" / f"{name}.png" for name in PLOTS)):
        path.unlink(missing_ok=True)


def stage_folders(folder: str | Path) -> list[Path]:
    """The folders of a student's training in order: before ``prediction`` stands ``feature``, where there is one."""
    folder = Path(folder)
    feature = folder.parent / "feature"
    first = [feature] if folder.name == "prediction" and (feature / "metrics.json").is_file() else []
    return [*first, folder]


def _draw_curves(students: Mapping[str, Path], path: Path) -> list[str]:
    draw_training_curves({_NAMES[role]: stage_folders(folder) for role, folder in students.items()}, path)
    return []


def _draw_classes(students: Mapping[str, Path], dataset_name: str, path: Path) -> list[str]:
    draw_class_differences(*(multilabel_results_path(folder, dataset_name) for folder in students.values()), path)
    return []


def _draw_precision_recall(folders: Mapping[str, str | Path], dataset_name: str, path: Path) -> list[str]:
    # The students first, so that their colors are those of the training curves.
    roles = [role for role in (*STUDENTS, "teacher") if role in folders]
    scores = dict(zip(roles, _scores_of_same_images([folders[role] for role in roles], dataset_name), strict=True))
    if not any((of.targets == 1).any() for of in scores.values()):
        raise InputError(
            f"{dataset_name}: no image has a label, so there is nothing to find; choose a dataset with labels"
        )
    curves = {_NAMES[role]: [micro_precision_recall(of.scores, of.targets)] for role, of in scores.items()}
    draw_precision_recall(curves, path)
    return ["Of all images and classes together (micro average), each decision with equal weight."]


def _draw_co_occurrence(
    students: Mapping[str, Path],
    dataset_name: str,
    class_names: Sequence[str],
    thresholds: Mapping[str, np.ndarray | float],
    path: Path,
) -> list[str]:
    same = _scores_of_same_images(list(students.values()), dataset_name)
    first = same[0]
    known = first.targets != -1
    truth = conditional_frequencies(first.targets == 1, known)
    predicted = {
        role: conditional_frequencies(of.scores >= thresholds[role], known)
        for role, of in zip(students, same, strict=True)
    }
    panels = {"true labels": truth} | {f"predicted {_NAMES[role]}": found for role, found in predicted.items()}
    draw_label_frequencies(panels, class_names, path)
    notes = [
        f"Predicted {_NAMES[role]}: the shares differ from those of the true labels by "
        f"{100 * error.mean_difference:.1f} points on average, correlation {error.correlation:.2f} "
        f"({error.pairs} ordered pairs of classes)."
        for role, error in zip(predicted, dependency_error(truth, *predicted.values()), strict=True)
    ]
    for note in notes:
        logger.info("%s", note)
    return notes


def _draw_regions(results: Sequence[ImageResult], class_names: Sequence[str], path: Path) -> list[str]:
    found = [result.regions for result in results if result.regions is not None]
    scores = np.concatenate([regions.scores.numpy() for regions in found])
    classes = np.concatenate([regions.pred_classes.numpy() for regions in found])
    draw_region_counts(scores, classes, len(found), class_names, path)
    return [f"On the {len(found)} photos of the gallery, after non-maximum suppression; more photos: --num-images."]


def _scores_of_same_images(folders: Sequence[str | Path], dataset_name: str) -> list[ImageScores]:
    """What evaluation has left in each folder, in the order of the images of the first."""
    paths = [multilabel_results_path(folder, dataset_name).with_name("image_scores.npz") for folder in folders]
    first, *others = [read_scores(str(path)) for path in paths]
    same = [first]
    for other in others:
        found = other.as_images_of(first)
        if found is None:
            raise InputError(f"{other.path}: other images or labels than {first.path}; evaluate both in the same way")
        same.append(found)
    return same
