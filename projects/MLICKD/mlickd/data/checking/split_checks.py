"""Check the splits of a dataset: images, labels, proposals, and duplicates between splits."""

from __future__ import annotations

import logging
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog

from mlickd.errors import InputError, shorten_list

from ..catalog import UnknownDatasetError, class_names, dataset_records
from ..parts import whole_name
from ..proposals.proposal_methods import PROPOSAL_METHODS
from ..proposals.store import ProposalStore, image_list_digest, proposals_path
from ..records import label_targets, labels_digest
from .image_checks import CheckedImage, check_images, equal_files, near_duplicates

# Error: training or evaluation would stop or be wrong. Warning: probably wrong. Note: information.
_SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """A problem or a note in one line, with all files, images or classes that have it."""

    severity: str
    dataset: str
    message: str
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class LabelStatistics:
    """The labels of one dataset of N images and C classes.

    Attributes:
        positives: (C,) number of images that have the class.
        per_image: {number of labels: number of images}, ascending.
        conditional: (C, C) result of :func:`conditional_frequencies`.
        unknown: (C,) number of images without a known label of the class.
        negative: number of images whose label is 0 for every class.
    """

    class_names: list[str]
    positives: np.ndarray
    per_image: dict[int, int]
    conditional: np.ndarray
    unknown: np.ndarray
    negative: int

    @property
    def num_known(self) -> np.ndarray:
        """Number of images with a known label of each class, (C,)."""
        return sum(self.per_image.values()) - self.unknown

    @classmethod
    def count(cls, records: Sequence[dict], class_names: Sequence[str]) -> LabelStatistics:
        """Return the statistics of the labels of records."""
        targets = label_targets(records, len(class_names))
        positive, unknown = targets == 1, (targets == -1).sum(axis=0)
        conditional = conditional_frequencies(positive, targets != -1)
        per_image = Counter(positive.sum(axis=1).tolist())
        per_image, negative = dict(sorted(per_image.items())), int((targets == 0).all(axis=1).sum())
        return cls(list(class_names), positive.sum(axis=0), per_image, conditional, unknown, negative)


def conditional_frequencies(positive: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the fraction of the images with one class that also have another class.

    Args:
        positive: (N, C) booleans, labels or predictions.
        known: (N, C) booleans, False for ignored labels; an image counts for a pair of classes if both are known.

    Returns:
        (C, C) P(column's class | row's class); NaN on the diagonal, and in the row of a class without images.
    """
    has = (positive & known).astype(np.float64)
    together, with_row = has.T @ has, has.T @ known.astype(np.float64)
    fractions = np.full(together.shape, np.nan)
    np.divide(together, with_row, out=fractions, where=with_row > 0)
    np.fill_diagonal(fractions, np.nan)
    return fractions


@dataclass
class CheckReport:
    """Statistics of the splits of a dataset, and the findings.

    Attributes:
        datasets: counts for JSON by the name of the split, without splits that cannot be loaded.
        labels: label statistics by the name of the split.
        findings: findings, errors first.
    """

    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)
    labels: dict[str, LabelStatistics] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True if no finding is an error."""
        return all(finding.severity != "error" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return the report as values for JSON."""
        return {"ok": self.ok, "findings": [asdict(finding) for finding in self.findings], "datasets": self.datasets}


def check_datasets(
    names: Sequence[str], methods: Sequence[str] | None = None, num_workers: int | None = None
) -> CheckReport:
    """Check each split of a dataset, and compare the splits.

    Args:
        names: registered datasets or folder datasets.
        methods: methods whose proposals must exist; None checks the existing proposals.
        num_workers: number of threads that decode images; None for one per core.

    Raises:
        UnknownDatasetError: a name is not the name of a dataset. Problems in a dataset become findings.
    """
    report = CheckReport()
    images: dict[str, list[CheckedImage]] = {}
    for name in dict.fromkeys(names):
        records = _load_records(name, report.findings)
        if records is None:
            continue
        checked = check_images(records, num_workers, title=name)
        images[name] = [image for image in checked if image.problem is None]
        if problems := [image.problem for image in checked if image.problem is not None]:
            report.findings.append(Finding("error", name, f"images that cannot be used: {len(problems)}", problems))
        if notes := [note for image in images[name] for note in image.notes]:
            report.findings.append(Finding("note", name, f"images with metadata that is left out: {len(notes)}", notes))
        readable = [image.record for image in images[name]]
        report.findings += check_proposals(name, readable, methods, complete=not problems)
        labels = report.labels[name] = LabelStatistics.count(records, class_names(name))
        report.datasets[name] = {
            "format": MetadataCatalog.get(name).get("format") or "registered in Detectron2's catalog",
            "num_images": len(records),
            "sha256": labels_digest(records, class_names(name)),
            "num_boxes": sum(len(record.get("annotations", ())) for record in records),
            "classes": dict(zip(labels.class_names, labels.positives.tolist(), strict=True)),
            "unknown": dict(zip(labels.class_names, labels.unknown.tolist(), strict=True)),
            "images_by_number_of_labels": {str(count): number for count, number in labels.per_image.items()},
            "conditional": labels.conditional.tolist(),
        }
    report.findings += [*_label_findings(report.labels), *_duplicates(images, report.labels)]
    report.findings.sort(key=lambda finding: _SEVERITIES.index(finding.severity))
    return report


def _load_records(name: str, findings: list[Finding]) -> list[dict] | None:
    """Return the records of a dataset, or None after an error. Append the error and logged warnings to the findings."""
    package, collector = logging.getLogger("mlickd"), logging.Handler(logging.WARNING)
    # Warnings of these modules repeat other findings.
    collector.addFilter(lambda record: not record.name.endswith((".records", ".safe_images")))
    collector.emit = lambda record: findings.append(Finding("warning", name, record.getMessage()))
    package.addHandler(collector)
    package.propagate = False
    try:
        return dataset_records(name)
    except UnknownDatasetError:
        raise
    except InputError as error:
        findings.append(Finding("error", name, f"cannot be loaded: {error}"))
    finally:
        package.propagate = True
        package.removeHandler(collector)


def _label_findings(statistics: dict[str, LabelStatistics]) -> Iterator[Finding]:
    """Yield findings about classes that cannot be learned or measured, and about different lists of classes."""
    for name, labels in statistics.items():
        first, reference = next(iter(statistics.items()))
        if labels.class_names != reference.class_names:
            differing = sorted(set(labels.class_names) ^ set(reference.class_names))
            message = f"the classes or their order differ from {first}; use one list for all splits"
            yield Finding("error", name, message, differing)
        known = labels.num_known
        if not known.any():
            yield Finding("note", name, "no photo has a label, so the photos are unlabeled")
            continue
        for chosen, message in (
            (labels.positives == 0, "classes without an image, which cannot be learned or measured"),
            ((labels.positives == known) & (known > 0), "classes in every image, which cannot be learned"),
        ):
            found = [labels.class_names[index] for index in np.flatnonzero(chosen)]
            if found:
                yield Finding("warning", name, f"{message}: {len(found)}", found)
        if labels.negative:
            yield Finding("note", name, f"images without a label (negatives of every class): {labels.negative}")
        if unknown := labels.per_image.get(0, 0) - labels.negative:
            yield Finding("note", name, f"images without a label of which some or all classes are unknown: {unknown}")


def check_proposals(
    name: str, records: Sequence[dict], methods: Sequence[str] | None = None, *, complete: bool = True
) -> Iterator[Finding]:
    """Check every box and digest in the stores of a dataset, and yield findings.

    Args:
        name: dataset. A part has the stores of the whole dataset.
        records: dicts with ``image_id``, ``height`` and ``width`` of readable images.
        methods: methods whose stores must exist; None checks all existing stores.
        complete: whether ``records`` are all records of the dataset. Their digest must then equal the store's digest.
    """
    whole = whole_name(name)
    make = f"make them with `mlickd generate-proposals --dataset {whole}`, or import them"
    folders = sorted(path.name for path in proposals_path(whole, "").parent.glob("*"))
    stored = [folder.removeprefix(f"{whole}_") for folder in folders if folder.startswith(f"{whole}_")]
    # pets_train_small_mcg does not belong to pets_train.
    stored = [
        method for method in stored if "_" not in method or method == _stored_method(proposals_path(whole, method))
    ]
    if not stored and not methods:
        yield Finding("note", name, f"no proposals for the teacher; {make}")
    for method in stored if methods is None else methods:
        path = proposals_path(name, method)
        try:
            store = ProposalStore(path)
            store.check(records)
            store.check_digests()
            made_for = records if name == whole else dataset_records(whole, boxes=False)
            if complete and store.header.get("image_digest") != image_list_digest(made_for):
                yield Finding("warning", name, f"{path}: made for other images or another list of images; {make}")
        except InputError as error:
            yield Finding("error", name, str(error))


def _stored_method(path: Path) -> str:
    """Return the method in the header of a store, or else in the name of a damaged store."""
    with suppress(InputError):
        return ProposalStore(path).header["method"]
    return next((name for name, _ in PROPOSAL_METHODS if path.name.endswith(f"_{name}")), "")


def _duplicates(images: dict[str, list[CheckedImage]], statistics: dict[str, LabelStatistics]) -> Iterator[Finding]:
    """Yield findings about images that occur twice in a split or in two splits; unlabeled copies do no harm."""
    unlabeled = {name for name in images if not statistics[name].num_known.any()}
    for name, other in combinations_with_replacement(images, 2):
        if {name, other} <= unlabeled:
            continue
        where, both_labeled = "" if name == other else f" in {name} and {other}", not {name, other} & unlabeled
        for kind, find in (("equal files", equal_files), ("near-duplicates", near_duplicates)):
            pairs = list(find(images[name], images[other]))
            if pairs:
                severity = "error" if find is equal_files and name != other and both_labeled else "warning"
                message = f"{len(pairs)} pair{'s' * (len(pairs) > 1)} of {kind}{where}"
                if both_labeled:
                    conflicts = sum(one["labels"] != two["labels"] for one, two in pairs)
                    message += f" ({conflicts} with different labels)" + "; scores will be too high" * (name != other)
                else:
                    message += "; scores will be too high if the labeled split is the test split"
                examples = [" = ".join(str(record["image_id"]) for record in pair) for pair in pairs]
                yield Finding(severity, name, message, examples)


def report_text(report: CheckReport) -> str:
    """Return the text of a report: a few lines for each split, the findings, and the verdict."""
    lines = []
    for name, counts in report.datasets.items():
        classes = sorted(counts["classes"].items(), key=lambda item: -item[1])
        labels = sum(counts["classes"].values()) / counts["num_images"]
        head = f"{counts['num_images']} images, {len(classes)} classes, {labels:.2f} labels per image"
        lines.append(f"{name}: {head}, {counts['num_boxes']} boxes")
        lines.append(_hanging("  format   ", counts["format"]))
        lines.append(_hanging("  labels   ", f"SHA-256 {counts['sha256']}"))
        lines.append(_hanging("  classes  ", shorten_list([f"{label} {count}" for label, count in classes], 10)))
        if unknown := [f"{label} {count}" for label, count in counts["unknown"].items() if count]:
            lines.append(_hanging("  unknown  ", shorten_list(unknown, 10)))
    for finding in report.findings:
        examples = f": {shorten_list(finding.examples, 3)}" if finding.examples else ""
        lines.append(_hanging(f"{finding.severity:<9}", f"{finding.dataset}: {finding.message}{examples}"))
    counts = Counter(finding.severity for finding in report.findings)
    verdict = ", ".join(f"{severity}s: {counts[severity]}" for severity in _SEVERITIES)
    return "\n".join([*lines, "", f"{'OK' if report.ok else 'not OK'} ({verdict})"])


def _hanging(head: str, text: str) -> str:
    whole_words = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.fill(text, 110, initial_indent=head, subsequent_indent=9 * " ", **whole_words)
