"""The report of :mod:`mlickd.studies.robustness`: tables and plots of paired runs, damaged and broken down."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tabulate import tabulate

from mlickd.data.catalog import UnknownDatasetError, class_names, dataset_records
from mlickd.data.corruptions import Corruption
from mlickd.data.records import label_targets
from mlickd.evaluation.breakdown import (
    by_class_frequency,
    by_label_count,
    by_object_size,
    class_frequencies,
    largest_objects,
)
from mlickd.evaluation.metrics import multilabel_metrics
from mlickd.evaluation.spread import spread
from mlickd.files import write_json, write_whole_file
from mlickd.visualization.study_charts import draw_breakdowns, draw_robustness

from .robustness import Run, scores_of_run

__all__ = ["write_robustness"]

# What a group is counted in.
_COUNTS = ("images", "positives", "classes")


def write_robustness(
    pairs: Sequence[tuple[Run, Run]], dataset_name: str, corruptions: Sequence[Corruption], output: Path
) -> str:
    """Evaluate all runs on clean and on damaged images and write what came out.

    In ``output``: ``robustness.md``, ``robustness.json`` (fractions), ``robustness.csv`` (points), ``robustness.png``,
    ``breakdowns.png``, and ``evaluations``, which the same command, given again, goes on from.

    Args:
        pairs: runs of baseline and distilled student, of one seed each.
        dataset_name: registered dataset.
        corruptions: the damage.
        output: folder.

    Returns:
        The report, in Markdown.

    Raises:
        InputError: an image or a checkpoint cannot be read, or a file cannot be written.
    """
    cfg = pairs[0][0].cfg
    protocol = {"threshold": cfg.TEST.THRESHOLD, "topk": cfg.TEST.TOP_K, "ap": cfg.TEST.AVERAGE_PRECISION}
    names = class_names(dataset_name)
    records = dataset_records(dataset_name)
    targets = label_targets(records, len(names))

    def scores(corruption: Corruption | None) -> list[list[np.ndarray]]:
        """Of each pair, of both of its runs."""
        folder = output / "evaluations"
        return [[scores_of_run(run, dataset_name, corruption, folder) for run in pair] for pair in pairs]

    clean = scores(None)
    sections, left_out = _broken_down(clean, targets, records, names, cfg.DATASETS.TRAIN, protocol)
    conditions = {"clean": _metrics(clean, targets, protocol)}
    for corruption in corruptions:
        conditions[str(corruption)] = _metrics(scores(corruption), targets, protocol)
    damaged = list(conditions.values())[1:]
    if damaged:
        conditions["mean of all damaged"] = [
            [{key: float(np.mean([c[i][k][key] for c in damaged])) for key in damaged[0][i][k]} for k in range(2)]
            for i in range(len(pairs))
        ]
    sections = {"condition": conditions, **sections}
    report = _markdown(sections, left_out, pairs, dataset_name, len(records), corruptions)
    content = {
        "dataset": dataset_name,
        "images": len(records),
        "runs": [[str(run.folder) for run in pair] for pair in pairs],
        "corruption_seed": corruptions[0].seed if corruptions else None,
        "protocol": protocol,
        "left_out": left_out,
        "sections": {
            section: {
                group: [dict(zip(("baseline", "distilled"), pair, strict=True)) for pair in values]
                for group, values in groups.items()
            }
            for section, groups in sections.items()
        },
    }
    write_json(output / "robustness.json", content)
    table = io.StringIO(newline="")
    csv.writer(table).writerows(_rows(sections))
    write_whole_file(output / "robustness.md", report, "give another folder")
    write_whole_file(output / "robustness.csv", table.getvalue(), "give another folder")
    if corruptions:
        draw_robustness(conditions, output / "robustness.png")
    draw_breakdowns({name: groups for name, groups in sections.items() if name in _PLOTTED}, output / "breakdowns.png")
    return report


_PLOTTED = ("object size", "number of labels", "frequency of classes in training")


def _metrics(scores: list[list[np.ndarray]], targets: np.ndarray, protocol: dict) -> list[list[dict[str, float]]]:
    keys = ("mAP", "CF1", "OF1")
    metrics = [[multilabel_metrics(of_run, targets, **protocol) for of_run in pair] for pair in scores]
    return [[{key: of_run[key] for key in keys} for of_run in pair] for pair in metrics]


def _broken_down(scores, targets, records, names, train, protocol) -> tuple[dict, list[str]]:
    """Groups of each breakdown, each a list of pairs; and what could not be computed, with the reason."""
    ap = {"ap": protocol["ap"]}
    sections, left_out = {}, []
    largest = largest_objects(records, len(names))
    if np.isfinite(largest).any():
        sections["object size"] = _by_group(scores, lambda s: by_object_size(s, targets, largest, **ap))
        unboxed = int(((targets == 1) & np.isnan(largest)).sum())
        without_boxes = [name for name, has in zip(names, np.isfinite(largest).any(axis=0), strict=True) if not has]
        if unboxed:
            of_classes = f", among them all of {', '.join(without_boxes)}" if without_boxes else ""
            left_out.append(f"Object size: {unboxed} labels have no box{of_classes}.")
    else:
        left_out.append("Object size: left out, because the dataset has no boxes.")
    sections["number of labels"] = _by_group(scores, lambda s: by_label_count(s, targets, **protocol))
    none = int((~(targets == 1).any(axis=1)).sum())
    left_out.append(f"Number of labels: {none} images without a label are in no group.")
    try:
        frequencies = class_frequencies(
            [record for name in train for record in dataset_records(name, boxes=False)], len(names)
        )
    except UnknownDatasetError:
        frequencies = None
        left_out.append(f"Frequency of classes: left out, because {', '.join(train)} is not on this machine.")
    if frequencies is not None:
        sections[_PLOTTED[2]] = _by_group(scores, lambda s: by_class_frequency(s, targets, frequencies, **ap))
    classes = [[multilabel_metrics(of_run, targets, **protocol)["AP"] for of_run in pair] for pair in scores]
    positives = (targets == 1).sum(axis=0)
    sections["class"] = {
        name: [[{"mAP": ap[index], "positives": int(positives[index])} for ap in pair] for pair in classes]
        for index, name in enumerate(names)
        if positives[index]
    }
    missing = [name for index, name in enumerate(names) if not positives[index]]
    if missing:
        left_out.append(f"Classes without a positive image, left out everywhere: {', '.join(missing)}.")
    return sections, left_out


def _by_group(scores, breakdown) -> dict[str, list[list[dict[str, float]]]]:
    results = [[breakdown(of_run) for of_run in pair] for pair in scores]
    return {group: [[of_run[group] for of_run in pair] for pair in results] for group in results[0][0]}


def _rows(sections: dict) -> list[list]:
    rows = [["section", "group", "metric", "pair", "baseline", "distilled", "difference"]]
    for section, groups in sections.items():
        for group, pairs in groups.items():
            for number, (baseline, distilled) in enumerate(pairs, start=1):
                for key in (key for key in baseline if key not in _COUNTS):
                    values = [100 * baseline[key], 100 * distilled[key], 100 * (distilled[key] - baseline[key])]
                    rows.append([section, group, key, number, *(f"{value:.4f}" for value in values)])
    return rows


def _markdown(sections, left_out, pairs, dataset_name, images, corruptions) -> str:
    seeds = f"{len(pairs)} pairs of runs" if len(pairs) > 1 else "one pair of runs, so no spread is known"
    parts = [
        f"# Robustness on {dataset_name}",
        f"{images} images, {seeds}. mAP in percent (in the table of classes, AP); values are means over the pairs ± "
        "standard deviation, the difference is that of pairs. AP depends on the number of positives: compare the "
        "columns, not groups with each other.",
    ]
    if corruptions:
        parts.append(
            f"Damage is done to the view of the model ({pairs[0][0].cfg.INPUT.SIZE_TEST} pixels), with seed "
            f"{corruptions[0].seed}."
        )
    for section, groups in sections.items():
        rows = []
        for group, values in groups.items():
            baseline, distilled = ([100 * pair[k]["mAP"] for pair in values] for k in (0, 1))
            differences = [b - a for a, b in zip(baseline, distilled, strict=True)]
            counts = [values[0][0].get(key, "") for key in _COUNTS]
            cells = [spread(baseline).text(), spread(distilled).text(), spread(differences).text("+")]
            rows.append([group, *counts, *(cell if "nan" not in cell else "" for cell in cells)])
        headers = [section, *_COUNTS, "baseline", "distilled", "difference"]
        used = [i for i in range(len(headers)) if any(row[i] != "" for row in rows) or i not in (1, 2, 3)]
        table = [[row[i] for i in used] for row in rows]
        parts += [
            f"## By {section}",
            tabulate(table, headers=[headers[i] for i in used], tablefmt="github", disable_numparse=True),
        ]
    return "\n\n".join([*parts, "## Left out", *left_out]) + "\n"
