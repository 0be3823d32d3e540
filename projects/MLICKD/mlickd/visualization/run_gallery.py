"""The gallery of finished runs: teacher, baseline and distilled student."""

import logging
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mlickd.data.build import model_class
from mlickd.data.catalog import class_names, dataset_records
from mlickd.errors import InputError
from mlickd.files import check_writable
from mlickd.modeling.meta_arch import ClassifierWithActivationMaps
from mlickd.runs import (
    check_has_learned,
    find_run,
    load_run,
    predict,
    read_report,
    report_path,
    run_class_names,
    run_config,
    run_thresholds,
)

from .figures import draw_result_figure
from .gallery import write_gallery
from .image_results import STUDENTS, image_result
from .run_plots import remove_run_plots, write_run_plots

logger = logging.getLogger(__name__)


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
    photos: Sequence[dict] = (),
    threshold: float | None = None,
    activation_maps: bool = False,
    figures: bool = False,
) -> Path:
    """Run models on images of a dataset or on other photos, and write the gallery; for a dataset also the plots.

    The header of the gallery shows the mAP of each run that was evaluated on the dataset.

    Args:
        dataset_name: dataset of the images; None with ``photos``.
        output_dir: folder of the gallery.
        teacher, baseline, distilled: ``OUTPUT_DIR`` of the runs; at least one.
        num_images: number of random images of the dataset.
        seed: seed of the random choice.
        image_ids: ids of the images of the dataset to show, instead of random images.
        photos: records of photos to show, instead of images of the dataset.
        threshold: threshold of all classes; None uses :func:`mlickd.runs.run_thresholds` for each run.
        activation_maps: whether to show class activation maps of the students.
        figures: whether to write the result figure of each image into the new folder ``figures``.

    Returns:
        Path of ``index.html``.

    Raises:
        InputError: a run is missing or has another role or other classes; a dataset, an image id, an image or the
            threshold is wrong; ``figures`` exists; or a file cannot be written.
    """
    folders = {"teacher": teacher, "baseline": baseline, "distilled": distilled}
    folders = {role: find_run(folder) for role, folder in folders.items() if folder is not None}
    if not folders or (dataset_name is None) == (not photos):
        raise InputError("give at least one of --teacher, --baseline and --distilled, and either --dataset or --photos")
    records = photos or _choose_records(dataset_name, num_images, seed, image_ids)
    names, thresholds = _check_runs(folders, dataset_name, threshold)
    check_writable(Path(output_dir) / "index.html")
    figure_folder = Path(output_dir) / "figures"
    if figures and figure_folder.exists():
        raise InputError(f"{figure_folder}: exists; delete it, or give another --output")
    outputs, means = {}, {}
    for role, folder in folders.items():
        cfg, model = load_run(folder)
        logger.info("%s: %d images", role, len(records))
        if activation_maps and role in STUDENTS:
            model = ClassifierWithActivationMaps(model)
        outputs[role] = predict(cfg, model, records, dataset_name)
        if dataset_name and (report := report_path(folder, dataset_name)):
            means[role] = read_report(report)["metrics"]["mAP"]
    results = [
        image_result(record, names, thresholds=thresholds, **{r: outputs[r][record["image_id"]] for r in outputs})
        for record in records
    ]
    index = write_gallery(
        results,
        names,
        output_dir,
        title=f"Predictions on {dataset_name}" if dataset_name else "Predictions",
        mean_average_precision={role: mean for role, mean in means.items() if mean is not None},
        thresholds=thresholds,
    )
    for number, result in enumerate(results if figures else (), start=1):
        path = figure_folder / f"{number:04d}-{Path(result.file_name).stem[:60]}.png"
        path.parent.mkdir(exist_ok=True)
        draw_result_figure(result, names).save(path)
    remove_run_plots(output_dir)  # an earlier gallery may have shown other runs
    if dataset_name:
        write_run_plots(output_dir, dataset_name, folders, names, thresholds, results)
    return index


def _choose_records(dataset_name: str, num_images: int, seed: int, image_ids: Sequence[str]) -> list[dict]:
    """Return random records of a dataset, or the records with these ids, in the order of the dataset."""
    records = dataset_records(dataset_name)
    if image_ids:
        by_id = {str(record["image_id"]): record for record in records}
        if missing := sorted(map(str, image_ids - by_id.keys())):
            example = next(iter(by_id))
            raise InputError(f"--images {missing[0]}: not in dataset {dataset_name}; give ids such as {example}")
        return [record for image_id, record in by_id.items() if image_id in image_ids]
    indices = random.Random(seed).sample(range(len(records)), min(num_images, len(records)))
    return [records[index] for index in sorted(indices)]


def _check_runs(
    folders: Mapping[str, Path], dataset_name: str | None, threshold: float | None
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Check all runs before the first is loaded, and return their class names and the thresholds of the students."""
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"--threshold {threshold:g}: give a number from 0 to 1")
    expected = None if dataset_name is None else class_names(dataset_name)
    thresholds = {}
    for role, folder in folders.items():
        cfg = run_config(folder)
        names = run_class_names(cfg, folder)
        expected = expected or names
        is_detector = model_class(cfg).is_detector
        found = "teacher" if is_detector else "distilled" if cfg.KD.STAGE else "baseline"
        if found != role:
            raise InputError(f"--{role} {folder}: is a {found} run; name it in --{found}")
        if names != expected:
            raise InputError(
                f"--{role} {folder}: has {len(names)} classes ({names[0]}, ...); the dataset and the other runs have "
                f"{len(expected)} ({expected[0]}, ...)"
            )
        check_has_learned(cfg, folder)
        if role in STUDENTS:
            tuned, _ = run_thresholds(cfg, folder, names)
            thresholds[role] = tuned if threshold is None else np.full(len(names), threshold)
    return expected, thresholds
