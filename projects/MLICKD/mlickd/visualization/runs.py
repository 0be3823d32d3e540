"""The gallery of finished runs: teacher, baseline and distilled student on one dataset."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode

from mlickd.data.build import model_class
from mlickd.data.catalog import class_names, dataset_records
from mlickd.data.photos import photo_records
from mlickd.errors import InputError
from mlickd.evaluation.thresholds import THRESHOLDS_FILE, load_thresholds
from mlickd.modeling.meta_arch import ClassifierWithActivationMaps
from mlickd.runs import (
    check_has_learned,
    load_run,
    multilabel_results,
    multilabel_results_path,
    predict,
    run_class_names,
    run_config,
)

from .gallery import make_folder, write_gallery, write_result_figures
from .results import STUDENTS, ImageResult, image_result
from .run_plots import remove_run_plots, write_run_plots

__all__ = [
    "check_runs",
    "choose_records",
    "results_of_runs",
    "student_thresholds",
    "write_gallery_of_runs",
]

logger = logging.getLogger(__name__)

TITLES = {"teacher": "Teacher", **STUDENTS}


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
    """Run the models on some images of a dataset, or on other photos, and write their gallery: :func:`write_gallery`.

    The mAP in its header is that of the whole dataset, where evaluation has left it in the folder of the run. Of
    images of the dataset the plots of the runs are written beside it: :func:`write_run_plots`.

    Args:
        dataset_name: with the classes of the models; None where ``photos`` are given, and their classes are those that
            the runs were trained for.
        output_dir: of the gallery.
        teacher, baseline, distilled: folders of runs, each the ``OUTPUT_DIR`` of its training; at least one.
        num_images, seed, image_ids: see :func:`choose_records`.
        photos: instead of images of the dataset; see :func:`photo_records`.
        threshold: see :func:`student_thresholds`.
        activation_maps: show where in a photo the students find their classes.
        figures: write the result figure of each photo into ``figures``, too.

    Returns:
        Path of ``index.html``.

    Raises:
        InputError: a folder holds no finished run or not the right one, or a dataset, an image id or an image is
            wrong.
    """
    folders = {"teacher": teacher, "baseline": baseline, "distilled": distilled}
    folders = {role: folder for role, folder in folders.items() if folder is not None}
    if dataset_name is None and not photos:
        raise InputError("--dataset is missing; name the dataset of the photos, or give --photos")
    if photos:
        records = photo_records(photos)
    else:
        records = choose_records(dataset_name, num_images, seed, image_ids)
    names = check_runs(folders, dataset_name, activation_maps=activation_maps)
    thresholds = {
        role: student_thresholds(run_config(str(folder)), str(folder), names, threshold)
        for role, folder in folders.items()
        if role in STUDENTS
    }
    make_folder(output_dir)
    results = results_of_runs(
        folders,
        records,
        names,
        dataset_name=None if photos else dataset_name,
        thresholds=thresholds,
        activation_maps=activation_maps,
    )
    means = {}
    for role in () if photos else folders:
        report = multilabel_results_path(folders[role], dataset_name)
        if report.is_file():
            means[TITLES[role]] = multilabel_results(report)["metrics"]["mAP"]
    index = write_gallery(
        results,
        names,
        output_dir,
        title="Predictions" if photos else f"Predictions on {dataset_name}",
        mean_average_precision={title: mean for title, mean in means.items() if mean is not None},
        thresholds={STUDENTS[role]: of_role for role, of_role in thresholds.items()},
    )
    if figures:
        write_result_figures(results, names, Path(output_dir) / "figures")
    remove_run_plots(output_dir)
    if not photos:
        write_run_plots(output_dir, dataset_name, folders, class_names=names, thresholds=thresholds, results=results)
    return index


def student_thresholds(
    cfg: CfgNode, folder: str, names: Sequence[str], threshold: float | None = None
) -> np.ndarray | float:
    """Where a student predicts a class.

    Args:
        cfg: of its run.
        folder: of its run.
        names: of its classes.
        threshold: a score for all classes. None: those of each class that ``tools/tune_thresholds.py`` has left in the
            folder, or where there are none the run's ``TEST.THRESHOLD``.

    Raises:
        InputError: the score is not in 0..1, or the thresholds in the folder are not of this run.
    """
    if threshold is None:
        tuned = (Path(folder) / THRESHOLDS_FILE).is_file()
        return load_thresholds(folder, names) if tuned else cfg.TEST.THRESHOLD
    if not 0 <= threshold <= 1:
        raise InputError(f"--threshold {threshold:g}: give a number from 0 to 1")
    return threshold


def choose_records(dataset_name: str, num_images: int = 24, seed: int = 0, image_ids: Sequence[str] = ()) -> list[dict]:
    """Records of a dataset, in its order: those of ``image_ids``, or else ``num_images`` drawn at random by ``seed``.

    Raises:
        InputError: an unknown dataset or image id, or fewer than one image.
    """
    records = dataset_records(dataset_name)
    if image_ids:
        wanted = {str(image_id) for image_id in image_ids}
        chosen = [record for record in records if str(record["image_id"]) in wanted]
        missing = sorted(wanted - {str(record["image_id"]) for record in chosen})
        if missing:
            example = records[0]["image_id"]
            raise InputError(
                f"--images {missing[0]}: dataset {dataset_name} has no such image; give ids such as {example}"
            )
        return chosen
    if num_images < 1:
        raise InputError(f"--num-images {num_images}: choose at least 1")
    indices = random.Random(seed).sample(range(len(records)), min(num_images, len(records)))
    return [records[index] for index in sorted(indices)]


def results_of_runs(
    folders: dict[str, str | Path],
    records: Sequence[dict],
    names: Sequence[str],
    *,
    dataset_name: str | None = None,
    thresholds: Mapping[str, np.ndarray | float] | None = None,
    activation_maps: bool = False,
) -> list[ImageResult]:
    """Run the models on the images of ``records``.

    Args:
        folders: of the runs, by role: ``teacher``, ``baseline``, ``distilled``; see :func:`check_runs`.
        records: of the images.
        names: of the classes.
        dataset_name: of the records, so that its proposals are theirs; None: they are of none.
        thresholds: of the students, by role; see :func:`image_result`.
        activation_maps: those of the students, too.

    Raises:
        InputError: a checkpoint or an image cannot be read.
    """
    outputs = {}
    for role, folder in folders.items():
        cfg, model = load_run(str(folder))
        logger.info("%s: %d images", TITLES[role], len(records))
        if activation_maps and role in STUDENTS:
            model = ClassifierWithActivationMaps(model)
        outputs[role] = predict(cfg, model, records, dataset_name)
    return [
        image_result(
            record,
            names,
            **{role: found[record["image_id"]] for role, found in outputs.items()},
            thresholds=thresholds,
        )
        for record in records
    ]


def check_runs(
    folders: Mapping[str, str | Path], dataset_name: str | None = None, *, activation_maps: bool = False
) -> list[str]:
    """See that runs are what they are taken for, before one of them is run.

    Args:
        folders: by role: ``teacher``, ``baseline``, ``distilled``.
        dataset_name: whose classes they are to have; None: those of each other.
        activation_maps: whether the students are to have some.

    Returns:
        The names of the classes.

    Raises:
        InputError: there is no run, or one is not of its role, or of other classes.
    """
    if not folders:
        raise InputError("no run is given; give the folder of at least one of --teacher, --baseline and --distilled")
    names = None if dataset_name is None else class_names(dataset_name)
    source = f"dataset {dataset_name}"
    for role, folder in folders.items():
        cfg = run_config(str(folder))
        if names is None:
            names, source = run_class_names(cfg, folder), str(folder)
        elif dataset_name is None and run_class_names(cfg, folder) != names:
            raise InputError(f"{folder}: has other classes than {source}; give runs of one dataset")
        if cfg.MODEL.NUM_CLASSES != len(names):
            raise InputError(
                f"{folder}: the model has {cfg.MODEL.NUM_CLASSES} classes, {source} has {len(names)}; take the data "
                "set that it was trained on"
            )
        _check_role(role, folder, cfg, activation_maps)
    return names


def _check_role(role: str, folder: str | Path, cfg: CfgNode, activation_maps: bool) -> None:
    if role == "teacher" and not model_class(cfg).is_detector:
        raise InputError(
            f"--teacher {folder}: a {cfg.MODEL.META_ARCHITECTURE} finds no regions; name the folder of a teacher"
        )
    check_has_learned(cfg, folder)
    if activation_maps and role in STUDENTS and cfg.MODEL.CLASSIFIER.POOLING == "fc":
        raise InputError(f"--activation-maps: {folder} pools by fully connected layers, which have none; leave it out")
