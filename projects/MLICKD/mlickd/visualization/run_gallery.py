"""The gallery and the plots of finished runs: teacher, baseline and distilled student."""

from __future__ import annotations

import base64
import logging
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mlickd.data.build import model_class
from mlickd.data.catalog import class_names, dataset_records
from mlickd.data.photos import photo_records
from mlickd.errors import InputError
from mlickd.evaluation.breakdown import conditional_frequencies, dependency_error
from mlickd.evaluation.ranking import micro_precision_recall
from mlickd.evaluation.score_files import ImageScores, read_scores
from mlickd.files import check_writable, write_whole_file
from mlickd.modeling.meta_arch import ClassifierWithActivationMaps
from mlickd.runs import (
    check_has_learned,
    load_run,
    multilabel_results,
    multilabel_results_path,
    predict,
    run_class_names,
    run_config,
    run_thresholds,
)

from .charts import draw_class_differences, draw_training_curves
from .gallery import page_template, write_gallery, write_result_figures
from .image_results import STUDENTS, ImageResult, image_result
from .label_charts import draw_label_frequencies, draw_region_counts
from .study_charts import draw_precision_recall

__all__ = ["choose_records", "stage_folders", "write_gallery_of_runs", "write_run_plots"]

logger = logging.getLogger(__name__)

TITLES = {"teacher": "Teacher", **STUDENTS}
PLOTS_PAGE = "plots.html"
PLOTS = {
    "curves": "Training",
    "classes": "Average precision of each class",
    "precision_recall": "Precision and recall",
    "co_occurrence": "Labels that occur together",
    "regions": "The teacher's regions",
}


def write_gallery_of_runs(
    dataset_name: str | None,
    output_dir: str | Path,
    *,
    teacher: str | Path | None = None,
    baseline: str | Path | None = None,
    distilled: str | Path | None = None,
    num_images: int = 24,
    seed: int = 0,
    image_ids: Sequence[str] = (),
    photos: Sequence[str | Path] = (),
    threshold: float | None = None,
    activation_maps: bool = False,
    figures: bool = False,
) -> Path:
    """Run models on images of a dataset or on other photos, and write the gallery; for a dataset also the plots.

    The header has the mAP on the whole dataset for each run that was evaluated on it.

    Args:
        dataset_name: dataset of the images; with ``photos`` it only checks the classes, and may be None.
        output_dir: folder of the gallery.
        teacher, baseline, distilled: ``OUTPUT_DIR`` of the runs; at least one.
        num_images, seed, image_ids: images of the dataset; see :func:`choose_records`.
        photos: photos, folders, patterns or lists of photos, in place of the dataset.
        threshold: threshold of all classes; None uses those of each run, see :func:`mlickd.runs.run_thresholds`.
        activation_maps: whether to show class activation maps of the students.
        figures: whether to write the result figure of each image into ``figures``.

    Returns:
        Path of ``index.html``.

    Raises:
        InputError: a run is missing, does not have that role or has other classes; a dataset, an image id, an image or
            the threshold is wrong; or a file cannot be written.
    """
    folders = {"teacher": teacher, "baseline": baseline, "distilled": distilled}
    folders = {role: Path(folder) for role, folder in folders.items() if folder is not None}
    if not folders:
        raise InputError("no run is given; give the folder of at least one of --teacher, --baseline and --distilled")
    if dataset_name is None and not photos:
        raise InputError("--dataset is missing; name the dataset of the photos, or give --photos")
    records = photo_records(photos) if photos else choose_records(dataset_name, num_images, seed, image_ids)
    names, thresholds = _check_runs(folders, dataset_name, threshold)
    check_writable(Path(output_dir) / "index.html")
    outputs = {}
    for role, folder in folders.items():
        cfg, model = load_run(folder)
        logger.info("%s: %d images", TITLES[role], len(records))
        if activation_maps and role in STUDENTS:
            model = ClassifierWithActivationMaps(model)
        outputs[role] = predict(cfg, model, records, None if photos else dataset_name)
    results = []
    for record in records:
        found = {role: of_images[record["image_id"]] for role, of_images in outputs.items()}
        results.append(image_result(record, names, thresholds=thresholds, **found))
    reports = {TITLES[role]: multilabel_results_path(folders[role], dataset_name) for role in folders if not photos}
    means = {title: multilabel_results(path)["metrics"]["mAP"] for title, path in reports.items() if path.is_file()}
    index = write_gallery(
        results,
        names,
        output_dir,
        title="Predictions" if photos else f"Predictions on {dataset_name}",
        mean_average_precision={title: mean for title, mean in means.items() if mean is not None},
        thresholds={STUDENTS[role]: values for role, values in thresholds.items()},
    )
    if figures:
        write_result_figures(results, names, Path(output_dir) / "figures")
    # An earlier gallery may have been of other runs.
    for path in (index.with_name(PLOTS_PAGE), *(index.parent / "plots" / f"{name}.png" for name in PLOTS)):
        path.unlink(missing_ok=True)
    if not photos:
        write_run_plots(output_dir, dataset_name, folders, names, thresholds, results)
    return index


def choose_records(dataset_name: str, num_images: int = 24, seed: int = 0, image_ids: Sequence[str] = ()) -> list[dict]:
    """Return records of a dataset, in its order.

    Args:
        dataset_name: name of the dataset.
        num_images: number of images, drawn at random.
        seed: seed of the random choice.
        image_ids: ids of the images to return instead.

    Raises:
        InputError: the dataset or an image id is unknown, or ``num_images`` is below 1.
    """
    records = dataset_records(dataset_name)
    if image_ids:
        by_id = {str(record["image_id"]): record for record in records}
        if missing := sorted(map(str, image_ids - by_id.keys())):
            raise InputError(
                f"--images {missing[0]}: not in dataset {dataset_name}; give ids such as {next(iter(by_id))}"
            )
        return [record for image_id, record in by_id.items() if image_id in image_ids]
    if num_images < 1:
        raise InputError(f"--num-images {num_images}: choose at least 1")
    indices = random.Random(seed).sample(range(len(records)), min(num_images, len(records)))
    return [records[index] for index in sorted(indices)]


def _check_runs(
    folders: Mapping[str, Path], dataset_name: str | None, threshold: float | None
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Check the runs before one of them is used, and return their class names and the thresholds of the students."""
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"--threshold {threshold:g}: give a number from 0 to 1")
    expected, source = (None, "") if dataset_name is None else (class_names(dataset_name), f"dataset {dataset_name}")
    thresholds = {}
    for role, folder in folders.items():
        cfg = run_config(folder)
        names = run_class_names(cfg, folder)
        if expected is None:
            expected, source = names, str(folder)
        if names != expected:
            raise InputError(f"{folder}: has other classes than {source}; give runs of one dataset")
        if role == "teacher" and not model_class(cfg).is_detector:
            raise InputError(
                f"--teacher {folder}: is not a teacher but a {cfg.MODEL.META_ARCHITECTURE}; name a teacher"
            )
        check_has_learned(cfg, folder)
        if role in STUDENTS:
            tuned, _ = run_thresholds(cfg, folder, names)
            thresholds[role] = tuned if threshold is None else np.full(len(names), threshold)
    return expected, thresholds


def write_run_plots(
    output_dir: str | Path,
    dataset_name: str,
    folders: Mapping[str, str | Path],
    class_names: Sequence[str],
    thresholds: Mapping[str, np.ndarray | float],
    results: Sequence[ImageResult] = (),
) -> Path:
    """Write ``plots/*.png``, and ``plots.html`` with all of them, from the files of the runs.

    A plot whose data are missing is left out; the page and the log name the reason.

    Args:
        output_dir: folder of the gallery.
        dataset_name: dataset that the runs were evaluated on.
        folders: folders of the runs by role: ``teacher``, ``baseline``, ``distilled``.
        class_names: C names.
        thresholds: thresholds of the students, by role.
        results: results of images, for the teacher's regions.

    Returns:
        Path of ``plots.html``.

    Raises:
        InputError: a file cannot be written.
    """
    students = {role: Path(folders[role]) for role in STUDENTS if role in folders}
    reports = {role: multilabel_results_path(folder, dataset_name) for role, folder in folders.items()}

    def curves(path: Path) -> list[str]:
        draw_training_curves({role: stage_folders(folder) for role, folder in students.items()}, path)
        return []

    def classes(path: Path) -> list[str]:
        draw_class_differences(reports["baseline"], reports["distilled"], path)
        return []

    def precision_recall(path: Path) -> list[str]:
        # The students come first, so that their colors are those of the training curves.
        scores = _scores_of_same_images({role: reports[role] for role in (*STUDENTS, "teacher") if role in reports})
        if not any((found.targets == 1).any() for found in scores.values()):
            raise InputError(f"{dataset_name}: no image has a label; choose a dataset with labels")
        points = {role: [micro_precision_recall(found.scores, found.targets)] for role, found in scores.items()}
        draw_precision_recall(points, path)
        return ["Over all images and classes (micro average): each decision has the same weight."]

    def co_occurrence(path: Path) -> list[str]:
        scores = _scores_of_same_images({role: reports[role] for role in students})
        targets = next(iter(scores.values())).targets
        known = targets != -1
        truth = conditional_frequencies(targets == 1, known)
        predicted = {
            f"predicted, {role}": conditional_frequencies(found.scores >= thresholds[role], known)
            for role, found in scores.items()
        }
        draw_label_frequencies({"true labels": truth} | predicted, class_names, path)
        return [
            f"{title.capitalize()}: the shares differ from those of the true labels by "
            f"{100 * error.mean_difference:.1f} points on average, correlation {error.correlation:.2f} "
            f"({error.pairs} ordered pairs of classes)."
            for title, error in zip(predicted, dependency_error(truth, *predicted.values()), strict=True)
        ]

    def regions(path: Path) -> list[str]:
        found = [result.regions for result in results if result.regions is not None]
        scores = np.concatenate([regions.scores.numpy() for regions in found])
        classes = np.concatenate([regions.pred_classes.numpy() for regions in found])
        draw_region_counts(scores, classes, len(found), class_names, path)
        return [f"On the {len(found)} photos of the gallery, after non-maximum suppression; more photos: --num-images."]

    plots, missing = [], []
    for draw, possible in (
        (curves, students),
        (classes, len(students) == 2),
        (precision_recall, folders),
        (co_occurrence, students),
        (regions, any(result.regions is not None for result in results)),
    ):
        if not possible:
            continue
        path = Path(output_dir) / "plots" / f"{draw.__name__}.png"
        title = PLOTS[draw.__name__]
        try:
            notes = draw(path)
        except InputError as error:
            missing.append(f"{title}: {error}")
            logger.warning("Not drawn: %s", missing[-1])
            continue
        plots.append({"title": title, "image": base64.b64encode(path.read_bytes()).decode(), "notes": notes})
    page = page_template(PLOTS_PAGE).render(title=f"Plots of {dataset_name}", plots=plots, missing=missing)
    write_whole_file(Path(output_dir) / PLOTS_PAGE, page, "give another folder", parents=True)
    return Path(output_dir) / PLOTS_PAGE


def stage_folders(folder: str | Path) -> list[Path]:
    """Return the folders of the training of a student, in order: before ``prediction``, ``feature`` if it exists."""
    folder = Path(folder)
    feature = folder.parent / "feature"
    first = [feature] if folder.name == "prediction" and (feature / "metrics.json").is_file() else []
    return [*first, folder]


def _scores_of_same_images(reports: Mapping[str, Path]) -> dict[str, ImageScores]:
    """Return the scores next to each report, in the order of the images of the first."""
    scores: dict[str, ImageScores] = {}
    for role, report in reports.items():
        found = read_scores(str(report.with_name("image_scores.npz")))
        first = next(iter(scores.values()), found)
        aligned = found.as_images_of(first)
        if aligned is None:
            raise InputError(f"{found.path}: other images or labels than {first.path}; evaluate both in the same way")
        scores[role] = aligned
    return scores
