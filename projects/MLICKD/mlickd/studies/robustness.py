"""Compare baseline and distilled students on corrupted images, and by object size, label count and class frequency."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from detectron2.evaluation import inference_on_dataset
from tabulate import tabulate

from mlickd.data.build import build_test_loader
from mlickd.data.catalog import UnknownDatasetError, class_names, dataset_records
from mlickd.data.corruptions import Corruption
from mlickd.data.records import label_targets
from mlickd.engine.check_config import config_value
from mlickd.errors import InputError
from mlickd.evaluation import MultiLabelEvaluator, multilabel_metrics
from mlickd.evaluation.breakdown import by_class_frequency, by_label_count, by_object_size, largest_objects
from mlickd.evaluation.intervals import spread
from mlickd.evaluation.score_files import SCORES_FILE, ImageScores, read_scores
from mlickd.files import file_digest, require_file, write_json, write_whole_file
from mlickd.runs import check_has_learned, load_run, multilabel_results, provenance, run_class_names, run_config
from mlickd.visualization.image_results import STUDENTS
from mlickd.visualization.study_charts import draw_pairs

from .comparison import same_labeled_images

__all__ = ["compare_robustness", "compute_scores"]

logger = logging.getLogger(__name__)

# Keys that must be equal in all runs.
_SHARED = ("MODEL.NUM_CLASSES", "INPUT.SIZE_TEST", "TEST.THRESHOLD", "TEST.TOP_K", "TEST.AVERAGE_PRECISION")
# One item per pair of runs: {"baseline": {metric: value}, "distilled": {metric: value}}.
MetricPairs = list[dict[str, dict[str, float]]]
# By group, such as an object size or a corruption.
MetricPairsByGroup = dict[str, MetricPairs]


def compare_robustness(
    baseline: Sequence[Path], distilled: Sequence[Path], dataset: str, corruptions: Sequence[Corruption], output: Path
) -> str:
    """Evaluate pairs of runs on clean and on corrupted images, and write the report.

    ``output`` receives ``robustness.md``, ``robustness.json`` (fractions), ``robustness.png``, ``breakdowns.png`` and
    the folder ``evaluations``, from which the same command continues after an interruption.

    Args:
        baseline: folders of the baseline runs.
        distilled: folders of the distilled runs; the i-th baseline is paired with the i-th distilled run.
        dataset: name of the dataset.
        corruptions: corruptions of the images, with their strengths; they have the same seed.
        output: folder of the report.

    Returns:
        The report in Markdown.

    Raises:
        InputError: runs are missing or not comparable, an image cannot be read, or a file cannot be written.
    """
    cfg = _check_runs(baseline, distilled)
    protocol = {"threshold": cfg.TEST.THRESHOLD, "topk": cfg.TEST.TOP_K, "ap": cfg.TEST.AVERAGE_PRECISION}
    names, records = class_names(dataset), dataset_records(dataset)
    targets = label_targets(records, len(names))

    def pairs_of_scores(corruption: Corruption | None = None) -> list[dict[str, np.ndarray]]:
        pairs: list[dict[str, np.ndarray]] = [{} for _ in baseline]
        for role, folders in zip(STUDENTS, (baseline, distilled), strict=True):
            for number, folder in enumerate(folders):
                name = f"{role}{number}_{corruption or 'clean'}".replace(":", "-")
                scores = compute_scores(folder, output / "evaluations" / name, dataset, corruption)
                pairs[number][role] = scores.scores
        return pairs

    def headline(scores: np.ndarray) -> dict[str, float]:
        metrics = multilabel_metrics(scores, targets, **protocol)
        return {key: metrics[key] for key in ("mAP", "CF1", "OF1")}

    clean = pairs_of_scores()
    conditions: MetricPairsByGroup = {"clean": _for_both(headline, clean)}
    charts: dict[str, MetricPairsByGroup] = {}
    for corruption in corruptions:
        conditions[str(corruption)] = corrupted = _for_both(headline, pairs_of_scores(corruption))
        charts.setdefault(corruption.name, {"clean": conditions["clean"]})[str(corruption)] = corrupted
    heading = f"{len(records)} images, {len(baseline)} pair{'s' if len(baseline) > 1 else ''} of runs."
    if corruptions:
        heading += f" Corruptions are applied to the view of the model, with seed {corruptions[0].seed}."
        conditions["mean of all corruptions"] = _mean([conditions[str(corruption)] for corruption in corruptions])
    breakdowns, left_out = _break_down(clean, records, targets, names, cfg.DATASETS.TRAIN, protocol)
    sections = {"condition": conditions, **breakdowns}
    report = _as_markdown(f"# Robustness on {dataset}\n\n{heading}", sections, left_out)
    content = {
        "dataset": dataset,
        "images": len(records),
        "runs": {"baseline": [*map(str, baseline)], "distilled": [*map(str, distilled)]},
        "corruption_seed": corruptions[0].seed if corruptions else None,
        "protocol": protocol,
        "left_out": left_out,
        "sections": sections,
    }
    write_json(output / "robustness.json", content)
    write_whole_file(output / "robustness.md", report, "give another --output")
    if charts:
        draw_pairs(charts, output / "robustness.png")
    del breakdowns["class"]  # too many bars
    draw_pairs(breakdowns, output / "breakdowns.png")
    return report


def compute_scores(folder: Path, output: Path, dataset: str, corruption: Corruption | None = None) -> ImageScores:
    """Return the image scores of a run on a dataset.

    Scores are cached in ``output`` and recomputed only if data, checkpoint, configuration or versions change.

    Args:
        folder: folder of the run.
        output: folder of the scores.
        dataset: name of the dataset.
        corruption: corruption of the images.

    Raises:
        InputError: the run is not finished, it has other classes than the dataset, or an image cannot be read.
    """
    cfg = run_config(folder).clone()
    if run_class_names(cfg, folder) != class_names(dataset):
        raise InputError(f"--dataset {dataset}: has other classes than {folder}; give a dataset with these classes")
    cfg.defrost()
    cfg.DATASETS.TEST, cfg.DATASETS.PROPOSALS.TEST_FILES = (dataset,), ()
    cfg.TEST.CORRUPTION, cfg.TEST.CORRUPTION_SEED = str(corruption or ""), corruption.seed if corruption else 0
    source = provenance(cfg, dataset) | {"checkpoint": {"sha256": file_digest(cfg.MODEL.WEIGHTS)}}
    report: dict = {}
    with suppress(InputError):  # the first evaluation, or a damaged report
        report = multilabel_results(output / "multilabel_results.json")
    if any(report.get(key) != value for key, value in source.items() if key != "date"):
        logger.info("%s: scores on %s%s", folder, dataset, f" with {corruption}" if corruption else "")
        evaluator = MultiLabelEvaluator(
            dataset,
            threshold=cfg.TEST.THRESHOLD,
            topk=cfg.TEST.TOP_K,
            ap=cfg.TEST.AVERAGE_PRECISION,
            corruption=cfg.TEST.CORRUPTION,
            provenance=source,
            output_dir=str(output),
        )
        inference_on_dataset(load_run(folder)[1], build_test_loader(cfg, dataset), evaluator)
    return read_scores(str(output / SCORES_FILE))


def _check_runs(baseline: Sequence[Path], distilled: Sequence[Path]) -> CfgNode:
    """Check that runs are comparable; return the configuration of the first one."""
    folders = [*baseline, *distilled]
    if len(baseline) != len(distilled) or len({folder.absolute() for folder in folders}) < len(folders):
        raise InputError(
            f"--baseline has {len(baseline)} runs and --distilled {len(distilled)}; give the same number, each run once"
        )
    configurations = [run_config(folder) for folder in folders]
    first = configurations[0]
    for folder, cfg in zip(folders, configurations, strict=True):
        check_has_learned(cfg, folder)
        require_file(cfg.MODEL.WEIGHTS, f"{folder}: checkpoint", "name a finished run")
        different = [key for key in _SHARED if config_value(cfg, key) != config_value(first, key)]
        if different or not same_labeled_images(cfg.DATASETS.TRAIN, first.DATASETS.TRAIN):
            key = different[0] if different else "DATASETS.TRAIN"
            raise InputError(
                f"{folder}: {key} is {config_value(cfg, key)}, but {config_value(first, key)} in {folders[0]}; compare "
                "runs with the same value, and with the same labeled training images"
            )
    return first


def _for_both(function: Callable[[np.ndarray], dict], pairs: Sequence[Mapping[str, np.ndarray]]) -> list[dict]:
    """Apply ``function`` to the scores of both runs of each pair."""
    return [{role: function(scores) for role, scores in pair.items()} for pair in pairs]


def _mean(conditions: Sequence[MetricPairs]) -> MetricPairs:
    """Return the metrics of each pair, averaged over conditions."""
    return [
        {
            role: {key: float(np.mean([pair[role][key] for pair in pairs])) for key in pairs[0][role]}
            for role in STUDENTS
        }
        for pairs in zip(*conditions, strict=True)
    ]


def _break_down(
    clean: Sequence[Mapping[str, np.ndarray]],
    records: Sequence[dict],
    targets: np.ndarray,
    names: Sequence[str],
    train: Sequence[str],
    protocol: dict,
) -> tuple[dict[str, MetricPairsByGroup], list[str]]:
    """Return the metrics of the groups of each breakdown, and notes about labels and images that are left out."""

    def by_group(function: Callable[[np.ndarray], dict[str, dict]]) -> MetricPairsByGroup:
        results = _for_both(function, clean)
        return {g: [{role: found[role][g] for role in found} for found in results] for g in results[0]["baseline"]}

    def by_class(scores: np.ndarray) -> dict[str, dict[str, float]]:
        precisions = multilabel_metrics(scores, targets, **protocol)["AP"]
        return {names[i]: {"AP": precisions[i], "positives": int(positives[i])} for i in np.flatnonzero(positives)}

    ap = {"ap": protocol["ap"]}
    sections, left_out = {}, []
    positive = targets == 1
    positives, largest = positive.sum(axis=0), largest_objects(records, len(names))
    if np.isfinite(largest).any():
        sections["object size"] = by_group(lambda scores: by_object_size(scores, targets, largest, **ap))
        left_out.append(f"Object size: {int((positive & np.isnan(largest)).sum())} labels without a box.")
    else:
        left_out.append("Object size: the images do not have boxes.")
    sections["number of labels"] = by_group(lambda scores: by_label_count(scores, targets, **protocol))
    left_out.append(f"Number of labels: {int((~positive.any(axis=1)).sum())} images without a label.")
    try:
        trained_on = [record for name in train for record in dataset_records(name, boxes=False)]
        frequencies = (label_targets(trained_on, len(names)) == 1).sum(axis=0)
        by_frequency = by_group(lambda scores: by_class_frequency(scores, targets, frequencies, **ap))
        sections["frequency of classes in training"] = by_frequency
    except UnknownDatasetError:
        left_out.append(f"Frequency of classes: {', '.join(train)} is not on this machine.")
    sections["class"] = by_group(by_class)
    missing = [name for name, count in zip(names, positives, strict=True) if not count]
    left_out.append(f"Classes without a positive image: {', '.join(missing) or 'none'}.")
    return sections, left_out


def _as_markdown(heading: str, sections: Mapping[str, MetricPairsByGroup], left_out: Sequence[str]) -> str:
    parts = [
        heading,
        "mAP in percent (AP in the table of classes): mean over the pairs ± standard deviation. Differences are taken "
        "within pairs. AP depends on the number of positives: compare values within a row, not between rows.",
    ]
    for section, groups in sections.items():
        metric = "AP" if section == "class" else "mAP"
        rows = []
        for group, pairs in groups.items():
            values = {role: np.array([100 * pair[role][metric] for pair in pairs]) for role in STUDENTS}
            texts = {role: spread(values[role]).text() for role in STUDENTS}
            texts["difference"] = spread(values["distilled"] - values["baseline"]).text("+")
            counts = {
                k: pairs[0]["baseline"][k] for k in ("images", "positives", "classes") if k in pairs[0]["baseline"]
            }
            rows.append({section: group, **counts, **{key: "" if "nan" in t else t for key, t in texts.items()}})
        parts += [f"## By {section}", tabulate(rows, "keys", tablefmt="github", disable_numparse=True)]
    return "\n\n".join([*parts, "## Left out", "\n".join(f"- {note}" for note in left_out)]) + "\n"
