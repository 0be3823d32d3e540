"""The plots of finished runs: teacher, baseline and distilled student on one dataset."""

import base64
import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mlickd.data.checking.split_checks import conditional_frequencies
from mlickd.errors import InputError
from mlickd.evaluation.ranking import micro_curve
from mlickd.evaluation.score_files import SCORES_FILE, ImageScores, read_scores
from mlickd.files import write_atomic
from mlickd.runs import read_report, report_path

from .charts import draw_training_curves
from .gallery import TEMPLATES, inline_file
from .image_results import STUDENTS, ImageResult
from .label_charts import draw_label_frequencies, draw_region_counts
from .study_charts import draw_class_gains, draw_precision_recall

logger = logging.getLogger(__name__)

PAGE = "plots.html"
# Titles of the plots by file name.
TITLES = {
    "curves": "Training",
    "classes": "Average precision of each class",
    "precision_recall": "Precision and recall",
    "co_occurrence": "Labels that occur together",
    "regions": "The teacher's regions",
}


def write_run_plots(
    output_dir: str | Path,
    dataset_name: str,
    folders: Mapping[str, str | Path],
    class_names: Sequence[str],
    thresholds: Mapping[str, np.ndarray | float],
    results: Sequence[ImageResult],
) -> None:
    """Write ``plots/*.png``, and ``plots.html`` with all of them, from the files of the runs.

    A plot without data is left out, and so are the results of a run that was not evaluated on the dataset. The page and
    the log name the reason.

    Args:
        output_dir: folder of the gallery.
        dataset_name: dataset that the runs were evaluated on.
        folders: folders of the runs by role: ``teacher``, ``baseline``, ``distilled``.
        class_names: C names.
        thresholds: thresholds of the students, by role.
        results: results of images, with the teacher's regions.
    """
    students = {role: Path(folders[role]) for role in STUDENTS if role in folders}
    found = {role: report_path(folder, dataset_name) for role, folder in folders.items()}
    reports = {role: report for role, report in found.items() if report is not None}
    evaluated_students = [role for role in students if role in reports]
    missing = [
        f"{folder}: was not evaluated on {dataset_name}; run mlickd train --config-file "
        f"{shlex.quote(str(Path(folder) / 'config.yaml'))} --eval-only DATASETS.TEST \"('{dataset_name}',)\""
        for role, folder in folders.items()
        if role not in reports
    ]
    for reason in missing:
        logger.warning("Not drawn: %s", reason)

    # Each function draws the plot that has its name, and returns notes about the plot.

    def curves(path: Path) -> list[str]:
        """Draw the training curves of the students."""
        draw_training_curves({role: _stage_folders(folder) for role, folder in students.items()}, dataset_name, path)
        return []

    def classes(path: Path) -> list[str]:
        """Draw the gain in AP of each class, in points, from the baseline to the distilled student."""
        both = [read_report(reports[role]) for role in STUDENTS]
        # AP in percent; NaN for a class without a positive image.
        baseline, distilled = (
            np.array([report["per_class"].get(name, {}).get("AP") for name in class_names], dtype=np.float64)
            for report in both
        )
        gains = distilled - baseline
        if both[0].get("protocol") != both[1].get("protocol") or not np.isfinite(gains).any():
            files = f"{reports['baseline']}, {reports['distilled']}"
            raise InputError(f"{files}: different protocols or no common class; evaluate both in the same way")
        draw_class_gains({"distilled": gains[None]}, class_names, path)
        means = [report["metrics"]["mAP"] for report in both]
        return [f"mAP {means[0]:.1f} of the baseline, {means[1]:.1f} of the distilled student."]

    def precision_recall(path: Path) -> list[str]:
        """Draw precision over recall of all models, over all images and classes."""
        # The students come first, so that they have the colors of the training curves.
        by_role = _scores_of_same_images({role: reports[role] for role in (*STUDENTS, "teacher") if role in reports})
        if not any((scores.targets == 1).any() for scores in by_role.values()):
            raise InputError(f"{dataset_name}: no image has a label; choose a dataset with labels")
        points = {role: micro_curve(found.scores, found.targets).precision_recall() for role, found in by_role.items()}
        draw_precision_recall({role: [curve] for role, curve in points.items()}, path)
        return ["Over all images and classes (micro average): each decision has the same weight."]

    def co_occurrence(path: Path) -> list[str]:
        """Draw how often labels occur together, in the true labels and in the predictions of each student."""
        by_role = _scores_of_same_images({role: reports[role] for role in evaluated_students})
        targets = next(iter(by_role.values())).targets
        known = targets != -1
        truth = conditional_frequencies(targets == 1, known)
        predicted = {}
        for role, found in by_role.items():
            decisions = found.scores >= np.asarray(thresholds[role], dtype=found.scores.dtype)
            predicted[f"predicted, {role}"] = conditional_frequencies(decisions, known)
        draw_label_frequencies({"true labels": truth} | predicted, class_names, path)
        return ["Over all evaluated images, with the thresholds of the students."]

    with_regions = [result.regions for result in results if result.regions is not None]

    def regions(path: Path) -> list[str]:
        """Draw the number of the teacher's regions of each class, by intervals of their scores."""
        scores = np.concatenate([regions.scores.numpy() for regions in with_regions])
        labels = np.concatenate([regions.pred_classes.numpy() for regions in with_regions])
        draw_region_counts(scores, labels, len(with_regions), class_names, path)
        return [f"On the {len(with_regions)} photos of the gallery (--num-images), after non-maximum suppression."]

    plots = []
    needs = {
        curves: students,
        classes: len(evaluated_students) == 2,
        precision_recall: reports,
        co_occurrence: evaluated_students,
        regions: with_regions,
    }
    for draw in (draw for draw, data in needs.items() if data):
        path, title = Path(output_dir) / "plots" / f"{draw.__name__}.png", TITLES[draw.__name__]
        try:
            notes = draw(path)
        except InputError as error:
            missing.append(f"{title}: {error}")
            logger.warning("Not drawn: %s", missing[-1])
            continue
        plots.append({"title": title, "image": base64.b64encode(path.read_bytes()).decode(), "notes": notes})
    values = {
        "title": f"Plots of {dataset_name}",
        "plots": plots,
        "missing": missing,
        "style": inline_file("gallery.css"),
    }
    page = TEMPLATES.get_template(PAGE).render(values)
    write_atomic(Path(output_dir) / PAGE, page, "give another folder")


def remove_run_plots(output_dir: str | Path) -> None:
    """Remove the files of :func:`write_run_plots`."""
    for path in (PAGE, *(f"plots/{name}.png" for name in TITLES)):
        (Path(output_dir) / path).unlink(missing_ok=True)


def _stage_folders(folder: str | Path) -> list[Path]:
    """Return the training folders of a student in order; ``feature`` comes before ``prediction`` if it exists."""
    folder = Path(folder)
    feature = folder.parent / "feature"
    is_second = folder.name == "prediction" and (feature / "metrics.json").is_file()
    return [feature, folder] if is_second else [folder]


def _scores_of_same_images(reports: Mapping[str, Path]) -> dict[str, ImageScores]:
    """Return the scores next to each report, with the images in the order of the first file."""
    by_role = {role: read_scores(str(report.with_name(SCORES_FILE))) for role, report in reports.items()}
    first = next(iter(by_role.values()))
    for role, scores in by_role.items():
        by_role[role] = scores.align_with(first)
        if by_role[role] is None:
            raise InputError(f"{scores.path}: other images or labels than {first.path}; evaluate both in the same way")
    return by_role
