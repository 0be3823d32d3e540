"""The report of a check for a terminal."""

from __future__ import annotations

import textwrap
from collections import Counter

from .findings import SEVERITIES, Finding
from .report import CheckReport, SplitReport

__all__ = ["report_text"]

_WIDTH = 110
_CLASSES, _COUNTS, _EXAMPLES = 5, 8, 3  # shown at most


def report_text(report: CheckReport) -> str:
    """A few lines on each split, then the findings, then the verdict."""
    parts = [_split_text(name, split) for name, split in report.splits.items()]
    parts += [_finding_text(finding) for finding in report.findings]
    counts = Counter(finding.severity for finding in report.findings)
    found = ", ".join(f"{counts[s]} {s}{'s' if counts[s] > 1 else ''}" for s in SEVERITIES if counts[s])
    verdict = "not OK" if report.num_errors else "OK"
    return "\n".join([*parts, "", f"{verdict}: {found}" if found else verdict])


def _split_text(name: str, split: SplitReport) -> str:
    labels = split.labels
    total = int(labels.positives.sum())
    head = f"{name}: {split.num_images} images, {len(labels.class_names)} classes, "
    head += f"{total / split.num_images:.2f} labels an image"
    order = sorted(zip(labels.positives.tolist(), labels.class_names, strict=True), key=lambda item: -item[0])
    shown = [f"{class_name} {count}" for count, class_name in order]
    if len(shown) > 2 * _CLASSES:
        shown = [*shown[:_CLASSES], "...", *shown[-_CLASSES:]]
    counts = [f"{count}: {images}" for count, images in labels.per_image.items()]
    if len(counts) > _COUNTS:
        rest = sum(list(labels.per_image.values())[_COUNTS - 1 :])
        counts = [*counts[: _COUNTS - 1], f"more: {rest}"]
    sizes = [f"{kind} {width}x{height}" for kind, (height, width) in split.sizes.items()]
    rows = {
        "kinds": ", ".join(f"{count} {kind}" for kind, count in split.image_kinds.items()),
        "pixels": ", ".join(sizes),
        "classes": ", ".join(shown),
        "labels": "images by their number of labels  " + "  ".join(counts),
        "boxes": f"{split.num_boxes}, for evaluation alone" if split.num_boxes else "none",
        "proposals": "; ".join(
            f"{method} {values['mean']:.1f} an image ({values['min']} to {values['max']})"
            for method, values in split.proposals.items()
        )
        or "none",
    }
    return "\n".join([head, *(_hanging(f"  {key:<11}", text) for key, text in rows.items() if text)])


def _finding_text(finding: Finding) -> str:
    text = f"{finding.dataset}: {finding.message}"
    if finding.examples:
        more = len(finding.examples) - _EXAMPLES
        text += ": " + ", ".join(finding.examples[:_EXAMPLES]) + (f" and {more} more" if more > 0 else "")
    return _hanging(f"{finding.severity:<9}", text)


def _hanging(head: str, text: str) -> str:
    return textwrap.fill(
        text, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False,
        break_long_words=False,
    )  # fmt: skip
