"""Pairs of baseline and distilled student on damaged images, and by object size, label count and class frequency."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
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
from mlickd.evaluation.breakdown import (
    by_class_frequency,
    by_label_count,
    by_object_size,
    largest_objects,
)
from mlickd.evaluation.intervals import spread
from mlickd.evaluation.score_files import SCORES_FILE, ImageScores, read_scores
from mlickd.files import file_digest, require_file, write_json, write_whole_file
from mlickd.runs import check_has_learned, load_run, provenance, run_config
from mlickd.visualization.study_charts import ROLES, draw_pairs

from .comparison import same_labeled_images

__all__ = ["compare_robustness", "scores_of_run"]

logger = logging.getLogger(__name__)

# Keys that must be equal in all runs.
_SHARED = ("MODEL.NUM_CLASSES", "INPUT.SIZE_TEST", "TEST.THRESHOLD", "TEST.TOP_K", "TEST.AVERAGE_PRECISION")
_COUNTS = ("images", "positives", "classes")
_BREAKDOWNS = ("object size", "number of labels", "frequency of classes in training")
# By group, the metrics of both roles in each pair of runs.
Groups = dict[str, list[dict[str, dict[str, float]]]]


def compare_robustness(
    baseline: Sequence[Path], distilled: Sequence[Path], dataset: str, corruptions: Sequence[Corruption], output: Path
) -> str:
    """Evaluate pairs of runs on clean and on damaged images, and write the report.

    ``output`` gets ``robustness.md``, ``robustness.json`` (fractions), ``robustness.png``, ``breakdowns.png`` and
    ``evaluations``, with which the same command continues after an interruption.

    Args:
        baseline, distilled: folders of the runs, in pairs by position.
        dataset: name of the dataset.
        corruptions: kinds of damage.
        output: folder of the report.

    Returns:
        The report in Markdown.

    Raises:
        InputError: runs are missing or not comparable, an image cannot be read, or a file cannot be written.
    """
    runs = {role: list(folders) for role, folders in zip(ROLES, (baseline, distilled), strict=True)}
    cfg = _check_runs(runs)
    protocol = {"threshold": cfg.TEST.THRESHOLD, "topk": cfg.TEST.TOP_K, "ap": cfg.TEST.AVERAGE_PRECISION}
    names, records = class_names(dataset), dataset_records(dataset)
    targets = label_targets(records, len(names))

    def measure(function: Callable[[np.ndarray], dict], corruption: Corruption | None = None) -> Groups:
        """Apply a function that returns metrics by group to the scores of every run."""
        metrics = {}
        for role, folders in runs.items():
            condition = str(corruption or "clean").replace(":", "-")
            places = [output / "evaluations" / f"{role}{i}_{condition}" for i in range(len(folders))]
            scores = [scores_of_run(*run, dataset, corruption).scores for run in zip(folders, places, strict=True)]
            metrics[role] = [function(array) for array in scores]
        groups = metrics["baseline"][0]
        pairs = list(zip(*metrics.values(), strict=True))
        return {name: [dict(zip(ROLES, (a[name], b[name]), strict=True)) for a, b in pairs] for name in groups}

    conditions: Groups = {}
    for corruption in (None, *corruptions):

        def headline(scores: np.ndarray, condition: str = str(corruption or "clean")) -> dict:
            found = multilabel_metrics(scores, targets, **protocol)
            return {condition: {key: found[key] for key in ("mAP", "CF1", "OF1")}}

        conditions |= measure(headline, corruption)
    charts = {name: {} for name in dict.fromkeys(corruption.name for corruption in corruptions)}
    for name, groups in charts.items():
        groups |= {key: conditions[key] for key in conditions if key == "clean" or key.startswith(f"{name}:")}
    if corruptions:
        conditions["mean of all damaged"] = _mean([conditions[str(corruption)] for corruption in corruptions])
    breakdowns, left_out = _break_down(measure, records, targets, names, cfg.DATASETS.TRAIN, protocol)
    sections = {"condition": conditions, **breakdowns}
    heading = f"{len(records)} images, {len(baseline)} pair{'s' if len(baseline) > 1 else ''} of runs."
    if corruptions:
        heading += f" Damage is applied to the view of the model, with seed {corruptions[0].seed}."
    report = _as_markdown(f"# Robustness on {dataset}\n\n{heading}", sections, left_out)
    content = {
        "dataset": dataset,
        "images": len(records),
        "runs": {role: [str(folder) for folder in folders] for role, folders in runs.items()},
        "corruption_seed": corruptions[0].seed if corruptions else None,
        "protocol": protocol,
        "left_out": left_out,
        "sections": sections,
    }
    write_json(output / "robustness.json", content)
    write_whole_file(output / "robustness.md", report, "give another --output")
    if charts:
        draw_pairs(charts, output / "robustness.png")
    draw_pairs({name: breakdowns[name] for name in _BREAKDOWNS if name in breakdowns}, output / "breakdowns.png")
    return report


def scores_of_run(folder: Path, output: Path, dataset: str, corruption: Corruption | None = None) -> ImageScores:
    """Return the image scores of a run on a dataset. They are kept, and computed again only if something has changed.

    Args:
        folder: folder of the run.
        output: folder for the scores.
        dataset: name of the dataset.
        corruption: damage of the images.

    Raises:
        InputError: the run is not finished, it has other classes than the dataset, or an image cannot be read.
    """
    cfg = run_config(folder).clone()
    if cfg.MODEL.NUM_CLASSES != len(class_names(dataset)):
        raise InputError(
            f"{folder}: MODEL.NUM_CLASSES is {cfg.MODEL.NUM_CLASSES}, but dataset {dataset} has "
            f"{len(class_names(dataset))} classes; take a dataset with the classes of the run"
        )
    cfg.defrost()
    cfg.DATASETS.TEST, cfg.DATASETS.PROPOSALS.TEST_FILES = (dataset,), ()
    cfg.TEST.CORRUPTION, cfg.TEST.CORRUPTION_SEED = str(corruption or ""), corruption.seed if corruption else 0
    source = provenance(cfg, dataset) | {"checkpoint": {"sha256": file_digest(cfg.MODEL.WEIGHTS)}}
    try:
        report = json.loads((output / "multilabel_results.json").read_text())
        known = all(report.get(key) == value for key, value in source.items() if key != "date")
    except (OSError, ValueError, AttributeError):
        known = False
    if not known:
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


def _check_runs(runs: Mapping[str, Sequence[Path]]) -> CfgNode:
    """Check that runs are comparable; return the configuration of the first one."""
    counts = [len(folders) for folders in runs.values()]
    folders = [folder for folders in runs.values() for folder in folders]
    if counts[0] != counts[1] or len({folder.absolute() for folder in folders}) < len(folders):
        raise InputError(
            f"--baseline has {counts[0]} runs and --distilled {counts[1]}; give the same number, each run once"
        )
    configurations = [run_config(folder) for folder in folders]
    first = configurations[0]
    for folder, cfg in zip(folders, configurations, strict=True):
        check_has_learned(cfg, folder)
        require_file(cfg.MODEL.WEIGHTS, f"{folder}: checkpoint", "name a finished run")
        for key in _SHARED:
            if config_value(cfg, key) != config_value(first, key):
                raise InputError(
                    f"{folder}: {key} is {config_value(cfg, key)}, but {config_value(first, key)} in {folders[0]}; "
                    "compare runs that share it"
                )
        if not same_labeled_images(cfg.DATASETS.TRAIN, first.DATASETS.TRAIN):
            raise InputError(
                f"{folder}: DATASETS.TRAIN has other images or labels than in {folders[0]}; compare runs of the same"
            )
    return first


def _mean(conditions: Sequence[list]) -> list[dict[str, dict[str, float]]]:
    """Return the metrics of each pair, averaged over conditions."""
    return [
        {role: {key: float(np.mean([pair[role][key] for pair in pairs])) for key in pairs[0][role]} for role in ROLES}
        for pairs in zip(*conditions, strict=True)
    ]


def _break_down(
    measure: Callable[..., Groups],
    records: Sequence[dict],
    targets: np.ndarray,
    names: Sequence[str],
    train: Sequence[str],
    protocol: dict,
) -> tuple[dict[str, Groups], list[str]]:
    """Return the metrics of the groups of each breakdown, and notes about labels and images that are left out."""
    ap = {"ap": protocol["ap"]}
    sections, left_out = {}, []
    positives = (targets == 1).sum(axis=0)
    largest = largest_objects(records, len(names))
    if np.isfinite(largest).any():
        sections[_BREAKDOWNS[0]] = measure(lambda scores: by_object_size(scores, targets, largest, **ap))
        unboxed = int(((targets == 1) & np.isnan(largest)).sum())
        left_out.append(f"Object size: {unboxed} labels without a box.")
    else:
        left_out.append("Object size: no image has boxes.")
    sections[_BREAKDOWNS[1]] = measure(lambda scores: by_label_count(scores, targets, **protocol))
    left_out.append(f"Number of labels: {int((~(targets == 1).any(axis=1)).sum())} images without a label.")
    try:
        trained_on = [record for name in train for record in dataset_records(name, boxes=False)]
        frequencies = (label_targets(trained_on, len(names)) == 1).sum(axis=0)
        sections[_BREAKDOWNS[2]] = measure(lambda scores: by_class_frequency(scores, targets, frequencies, **ap))
    except UnknownDatasetError:
        left_out.append(f"Frequency of classes: {', '.join(train)} is not on this machine.")

    def by_class(scores: np.ndarray) -> dict[str, dict[str, float]]:
        precisions = multilabel_metrics(scores, targets, **protocol)["AP"]
        return {names[i]: {"mAP": precisions[i], "positives": int(positives[i])} for i in np.flatnonzero(positives)}

    sections["class"] = measure(by_class)
    missing = [name for name, count in zip(names, positives, strict=True) if not count]
    left_out.append(f"Classes without a positive image: {', '.join(missing) or 'none'}.")
    return sections, left_out


def _as_markdown(heading: str, sections: Mapping[str, Groups], left_out: Sequence[str]) -> str:
    parts = [
        heading,
        "mAP in percent (AP in the table of classes): mean over the pairs ± standard deviation; the difference is that "
        "of pairs. AP depends on the number of positives: compare the columns, not groups with each other.",
    ]
    for section, groups in sections.items():
        rows = []
        for group, pairs in groups.items():
            values = {role: [100 * pair[role]["mAP"] for pair in pairs] for role in ROLES}
            columns = [spread(values[role]).text() for role in ROLES]
            columns.append(spread(np.subtract(values["distilled"], values["baseline"])).text("+"))
            counts = {key: pairs[0]["baseline"][key] for key in _COUNTS if key in pairs[0]["baseline"]}
            row = dict(zip((*ROLES, "difference"), columns, strict=True))
            rows.append({section: group, **counts, **{k: "" if "nan" in text else text for k, text in row.items()}})
        parts += [f"## By {section}", tabulate(rows, "keys", tablefmt="github", disable_numparse=True)]
    return "\n\n".join([*parts, "## Left out", "\n".join(f"- {note}" for note in left_out)]) + "\n"
