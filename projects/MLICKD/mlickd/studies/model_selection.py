"""Results on held-out photos: whether the teacher is ahead of the baseline, and which student is best."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from scipy.special import entr
from tabulate import tabulate

from mlickd.data.catalog import dataset_records
from mlickd.data.parts import part_for_seed
from mlickd.environment import dataset_root
from mlickd.evaluation.intervals import CONFIDENCE, Summary, bootstrap_metrics, percentile_interval, summarize
from mlickd.evaluation.score_files import SCORES_FILE, read_scores
from mlickd.prediction import load_model
from mlickd.prediction.photo_report import PhotoReport
from mlickd.runs import find_run

from .comparison import Comparison, TrainedModel, difference_over_images
from .training_methods import BASELINE, TEACHER

# With fewer photos, the teacher is not judged, and the choice is uncertain.
FEW_PHOTOS = 100


def select_student(comparison: Comparison) -> tuple[str, dict]:
    """Compare the finished models of a comparison on its held-out photos, and choose a student.

    Returns:
        A text in Markdown, and the values for JSON. ``chosen`` is the folder of a student, relative to the folder of
        the comparison: of the methods that have finished with all seeds, the one with the best mean mAP, and its first
        seed. It is None if no method has finished.

    Raises:
        InputError: a report or its scores are damaged.
    """
    methods: dict[str, dict[int, TrainedModel]] = {}
    for model in comparison.models:
        if model.jobs:  # a given teacher may have learned from these photos
            model = replace(model, test=part_for_seed(comparison.held_out, model.seed))
            if model.status == "done":
                methods.setdefault(model.method, {})[model.seed] = model
    baselines, images, results, differences = methods.get(BASELINE, {}), {}, {}, {}
    for name, by_seed in methods.items():
        images |= {model.test: model.report["counts"]["images"] for model in by_seed.values()}
        results[name] = summarize([model.report["metrics"]["mAP"] for model in by_seed.values()])
        if name == TEACHER and not comparison.teacher_per_seed:
            by_seed = dict.fromkeys(baselines, *by_seed.values())
        pairs = [(by_seed[seed], baseline) for seed, baseline in baselines.items() if seed in by_seed]
        if pairs and name != BASELINE:
            differences[name] = difference_over_images(pairs)
    texts = {name: difference.interval_text() for name, difference in differences.items()}
    rows = [[name, result.text(), texts.get(name, ""), result.count] for name, result in results.items()]
    table = tabulate(rows, ["", "mAP", f"difference to {BASELINE}", "seeds"], tablefmt="github", disable_numparse=True)
    finished = [name for name in methods if name != TEACHER and len(methods[name]) == len(comparison.seeds)]
    best = max(finished, key=lambda name: results[name].mean, default=None)
    content = {
        "images": images,
        "summary": {name: asdict(result) for name, result in results.items()},
        "differences": {name: asdict(difference) for name, difference in differences.items()},
        "chosen": best and str(methods[best][comparison.seeds[0]].folder.relative_to(comparison.folder)),
    }
    return f"{table}\n\n{_remarks(comparison, images, differences.get(TEACHER))}", content


def _remarks(comparison: Comparison, images: Mapping[str, int], teacher: Summary | None) -> str:
    """Return remarks on the numbers of held-out photos by dataset, and on the difference of teacher and baseline."""
    if not images:
        return "No model has results on the held-out photos."
    count = sum(images.values())
    remarks = (
        f"Results on {count} held-out photos, from which no model learned: {', '.join(images)}. "
        "Values are in percent, differences in points, with the "
        f"{100 * CONFIDENCE:g}% interval of their mean over resampled photos (bootstrap)."
    )
    if comparison.teacher:
        remarks += " The given teacher may have learned from these photos, so it is left out."
    if count < FEW_PHOTOS:
        return f"{remarks}\n\n{count} photos are too few for a reliable comparison."
    if not teacher or teacher.low > 0:
        return remarks
    fault = "worse than" if teacher.mean < 0 else "not clearly ahead of"
    advice = "; distillation will probably not help" if teacher.mean < 0 else ""
    return f"{remarks}\n\nWarning: the teacher is {fault} the baseline{advice}."


def describe_student(comparison: Comparison, unlabeled: str) -> str:
    """Describe the chosen student, by default the distilled one: its results on test photos, and photos to label next.

    These are the photos of the dataset ``unlabeled``, or else the test photos, that the student is least sure of.
    """
    folder = comparison.folder if comparison.held_out else comparison.folder / f"seed{comparison.seeds[0]}"
    run = find_run(folder)
    student = next(model for model in comparison.models if model.folder == run)
    report, results = PhotoReport(str(run), load_model(run)), []
    scores = read_scores(str(student.report_path.with_name(SCORES_FILE)))
    rules = {"threshold": comparison.methods[0].cfg.TEST.THRESHOLD, "ap": student.report["protocol"]["ap"]}
    resampled = bootstrap_metrics(scores.scores, scores.targets, **rules)
    for name in ("mAP", "CF1", "OF1"):
        low, high = percentile_interval(100 * resampled[name])
        results.append(f"{name} {student.report['metrics'][name]:.1f} [{low:.1f}, {high:.1f}]")
    files = [Path(record["file_name"]) for record in dataset_records(unlabeled or comparison.test, boxes=False)]
    # The user knows the folders, and not the links to them.
    predictions = list(report.predict([str(file.parent.resolve() / file.name) for file in files]))
    values = np.stack([prediction.values for prediction in predictions])
    order = np.argsort(-(entr(values) + entr(1 - values)).mean(axis=1), kind="stable")[:10]
    few = " With so few photos, the results are uncertain." if len(scores.scores) < FEW_PHOTOS else ""
    texts = [
        f"{len(scores.scores)} photos are only for the test: {dataset_root() / 'photos/labels_test.csv'}.{few} "
        f"Results of {run} there, in percent with the {100 * CONFIDENCE:g}% interval over resampled photos: "
        f"{', '.join(results)}.",
        "The model is least sure about these "
        f"{'unlabeled photos; label them next' if unlabeled else 'test photos'} (largest mean entropy of the scores). "
        "Its predictions:",
        "\n".join(f"    {predictions[i].name}: {', '.join(predictions[i].labels) or 'no label'}" for i in order),
        f"To predict photos:\n\n    mlickd predict FOLDER --model {shlex.quote(str(folder))}",
    ]
    return "\n\n".join(texts)
