"""All checks of the splits of a dataset, and what came out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog

from mlickd.errors import InputError

from ..catalog import UnknownDatasetError, class_names, dataset_records, other_splits
from ..sources.image_folder import unlisted_images
from ..sources.source import DatasetSource
from .duplicates import duplicate_findings
from .findings import SEVERITIES, Finding, counted
from .images import ImageFacts, image_findings, image_kinds, inspect_images
from .labels import LabelStatistics, class_findings, label_statistics
from .loading import collect_warnings
from .proposals import check_proposals

__all__ = ["CheckReport", "SplitReport", "check_datasets"]


@dataclass
class SplitReport:
    """What one dataset is like.

    Attributes:
        labels: how often the classes occur.
        num_boxes: box annotations, which are for evaluation alone.
        image_kinds: readable images of each kind, such as ``JPEG``, ``gray`` or ``turned by EXIF``.
        sizes: smallest, median and largest (height, width) by area, of the readable images.
        proposals: boxes of an image (``mean``, ``min``, ``max``) for each method with a sane store.
    """

    labels: LabelStatistics
    num_boxes: int
    image_kinds: dict[str, int]
    sizes: dict[str, tuple[int, int]]
    proposals: dict[str, dict[str, Any]]

    @property
    def num_images(self) -> int:
        """How many images the split has."""
        return sum(self.labels.per_image.values())


@dataclass
class CheckReport:
    """What the splits are like, and what was found.

    Attributes:
        splits: by name of the dataset; one that could not be loaded is not there.
        findings: errors first.
    """

    splits: dict[str, SplitReport] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def num_errors(self) -> int:
        """How many of the findings are errors."""
        return sum(finding.severity == "error" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """The report as JSON can hold it; classes by name."""
        return {
            "ok": not self.num_errors,
            "findings": [{**asdict(finding), "examples": list(finding.examples)} for finding in self.findings],
            "datasets": {name: _as_json(split) for name, split in self.splits.items()},
        }


def check_datasets(
    names: Sequence[str], methods: Sequence[str] | None = None, num_workers: int | None = None
) -> CheckReport:
    """Check datasets that are the splits of one: each for itself, and against each other.

    Args:
        names: registered or folder datasets.
        methods: of the proposals that must be there; see `check_proposals`.
        num_workers: threads that decode images; None for one for each core.

    Raises:
        UnknownDatasetError: there is no dataset of a name. Whatever is wrong inside one is a finding.
    """
    report = CheckReport()
    records: dict[str, list[dict]] = {}
    images: dict[str, list[ImageFacts]] = {}
    for name in dict.fromkeys(names):
        with collect_warnings(name, report.findings):
            try:
                records[name] = dataset_records(name)
            except UnknownDatasetError:
                raise
            except InputError as error:
                report.findings.append(Finding("error", name, f"cannot be loaded: {error}"))
    for name, split in records.items():
        images[name] = inspect_images(split, num_workers, title=name)
        report.findings += image_findings(name, split, images[name])
        readable = [record for record, image in zip(split, images[name], strict=True) if image.problem is None]
        proposals, findings = check_proposals(name, readable, methods, complete=len(readable) == len(split))
        report.findings += findings
        report.splits[name] = SplitReport(
            label_statistics(split, class_names(name)),
            sum(len(record.get("annotations", ())) for record in split),
            image_kinds(images[name]),
            _sizes(images[name]),
            proposals,
        )
    if records:
        report.findings += class_findings({name: split.labels for name, split in report.splits.items()})
        report.findings += duplicate_findings(records, images)
        report.findings += _unlisted_files(records)
        report.findings += _other_splits(names, list(records))
    report.findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return report


def _sizes(images: Sequence[ImageFacts]) -> dict[str, tuple[int, int]]:
    sizes = sorted(((i.height, i.width) for i in images if i.problem is None), key=lambda size: size[0] * size[1])
    return {"smallest": sizes[0], "median": sizes[len(sizes) // 2], "largest": sizes[-1]} if sizes else {}


def _other_splits(names: Sequence[str], loaded: Sequence[str]) -> list[Finding]:
    """A note where a dataset has further splits that nobody has asked for."""
    others = [other for other in other_splits(loaded) if other not in names]
    if not others:
        return []
    message = f"not checked: {', '.join(others)}; copies between splits are found among those that are given together"
    return [Finding("note", loaded[0], message)]


def _unlisted_files(splits: dict[str, list[dict]]) -> list[Finding]:
    """Images in the image folders that no dataset lists; not where a split that is not here may list them."""
    owners: dict[str, str] = {}
    for name in splits:
        root = MetadataCatalog.get(name).get("image_root")
        if root is not None:
            owners.setdefault(os.path.realpath(root), name)
    others = other_splits(list(splits)).values()
    records = [record for split in splits.values() for record in split]
    findings = []
    for root, name in owners.items():
        if any(_may_list(other, root) for other in others):
            continue
        files = unlisted_images(root, records)
        if files:
            message = counted(len(files), f"image in {root} is", f"images in {root} are")
            message += " in none of the datasets checked here"
            findings.append(Finding("note", name, message, files))
    return findings


def _may_list(source: DatasetSource, root: str) -> bool:
    """Whether the images of a source lie in this folder: it is one of its files, or beside its table."""
    folder = Path(root)
    files = [path.resolve() for path in source.files]
    return folder in files or any(path.is_file() and path.parent == folder.parent for path in files)


def _as_json(split: SplitReport) -> dict[str, Any]:
    labels = split.labels
    counts = zip(labels.class_names, labels.positives.tolist(), labels.ignored.tolist(), strict=True)
    return {
        "num_images": split.num_images,
        "num_boxes": split.num_boxes,
        "image_kinds": split.image_kinds,
        "image_sizes": split.sizes,
        "labels_per_image": {
            "mean": float(np.sum(labels.positives) / split.num_images),
            "images": {str(count): images for count, images in labels.per_image.items()},
        },
        "classes": {name: {"positives": positives, "ignored": ignored} for name, positives, ignored in counts},
        "together": labels.together.tolist(),
        "proposals": split.proposals,
    }
