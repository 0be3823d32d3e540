"""Recall of proposals: the fraction of objects that overlap one of the best proposals with at least a given IoU."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.structures import BoxMode
from tabulate import tabulate
from torchvision.ops import box_iou

from mlickd.data.proposals.image_proposals import complete_parameters, parameter_value, propose
from mlickd.data.proposals.store import ProposalStore
from mlickd.decoding import RecordImage
from mlickd.errors import InputError
from mlickd.progress import progress

# Thresholds of average recall, as in COCO and in Hosang et al. (2016).
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)

# A store, or a method with its parameters.
Source = ProposalStore | tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class ProposalRecall:
    """Measurement of one set of proposals.

    Attributes:
        overlaps: (K, M); [k, m] is the largest IoU of object m with the best ``counts[k]`` proposals of its image.
        counts: K numbers of proposals, ascending.
        num_images: number of images with an object.
        mean_proposals: mean number of proposals per image.
        seconds: mean processor time per image to make the proposals; None for a store.
    """

    overlaps: np.ndarray
    counts: tuple[int, ...]
    num_images: int
    mean_proposals: float
    seconds: float | None = None

    def recall(self, *iou_thresholds: float) -> np.ndarray:
        """Return (T, K) recalls: the fraction of objects with an IoU of at least each of T thresholds, for K counts."""
        return np.array([(self.overlaps >= threshold).mean(axis=1) for threshold in iou_thresholds])

    def table_values(self) -> dict[str, np.ndarray]:
        """Return the (K,) recalls at IoU 0.5 and 0.7, and the average recall over IoU 0.5, 0.55, ..., 0.95."""
        low, high = self.recall(0.5, 0.7)
        return {"recall@0.5": low, "recall@0.7": high, "AR": self.recall(*IOU_THRESHOLDS).mean(axis=0)}

    def summary(self) -> dict[str, Any]:
        """Return recalls by number of proposals, and the other attributes, ready for JSON."""
        values = {name: column.tolist() for name, column in self.table_values().items()}
        return {
            "proposals": {str(n): {key: values[key][k] for key in values} for k, n in enumerate(self.counts)},
            "objects": self.overlaps.shape[1],
            "images": self.num_images,
            "mean_proposals": self.mean_proposals,
            "cpu_seconds_per_image": self.seconds,
        }


def best_overlaps(boxes: np.ndarray, objects: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Return the largest IoU of each object in an image with the first ``counts[k]`` proposals of the image.

    Args:
        boxes: (R, 4) proposals, best first, (x0, y0, x1, y1).
        objects: (G, 4) boxes.
        counts: K numbers of proposals, at least 1.

    Returns:
        (K, G) in 0..1; 0 without proposals.
    """
    if len(boxes) == 0:
        return np.zeros((len(counts), len(objects)))
    # torch.tensor copies, because the boxes of a store are read-only, and torch warns about such arrays.
    iou = box_iou(*(torch.tensor(np.asarray(b), dtype=torch.float64) for b in (boxes, objects)))
    so_far = iou.cummax(dim=0).values.numpy()
    return so_far[np.minimum(counts, len(boxes)) - 1]


def parse_sources(stores: Sequence[Path], methods: Sequence[str]) -> dict[str, Source]:
    """Return the stores and methods to compare, by their names in the table.

    Args:
        stores: folders of stores; the name of a folder is the name of its source.
        methods: methods, as ``NAME`` or ``NAME:PARAMETER=VALUE,...``.

    Raises:
        InputError: a store cannot be opened, a method or parameter is unknown, two sources have the same name, or
            nothing is given.
    """
    sources: list[tuple[str, Source]] = [(path.name, ProposalStore(path)) for path in stores]
    for text in methods:
        method, _, settings = text.partition(":")
        pairs = [setting.partition("=") for setting in settings.split(",") if setting]
        parameters = {name: parameter_value(value) for name, _, value in pairs}
        complete_parameters(method, parameters)
        sources.append((f"{method} ({settings})" if settings else method, (method, parameters)))
    names = [name for name, _ in sources]
    if not names or len(set(names)) < len(names):
        raise InputError(f"--proposals, --methods {', '.join(names)}: give stores or methods with different names")
    return dict(sources)


def evaluate_source(records: Sequence[dict], name: str, source: Source, counts: Sequence[int]) -> ProposalRecall:
    """Measure the recall of proposals on a dataset; objects marked ``iscrowd`` or ``difficult`` do not count.

    Args:
        records: records of the dataset; records without ``annotations`` are left out.
        name: name of the source in the progress bar.
        source: store or method, see :func:`parse_sources`. A method makes ``max(counts)`` proposals by default.
        counts: numbers of proposals, at least 1.

    Raises:
        InputError: a store lacks an image, an image cannot be read, or no record has an object.
    """
    counts = tuple(sorted(set(counts)))
    found, lengths, seconds = [], [], []
    records = [record for record in records if record.get("annotations")]
    if isinstance(source, ProposalStore):
        source.check(records)
    for record in progress(records, name, "image"):
        objects = [
            BoxMode.convert(list(item["bbox"]), item["bbox_mode"], BoxMode.XYXY_ABS)
            for item in record["annotations"]
            if not item.get("iscrowd", 0) and not item.get("difficult", 0)
        ]
        if not objects:
            continue
        if isinstance(source, ProposalStore):
            boxes, _ = source[record["image_id"]]
        else:
            method, parameters = source
            image, _ = RecordImage(record, "BGR", check_size=True).decode()
            start = time.process_time()
            boxes, _ = propose(image, method, {"max_proposals": max(counts), **parameters})
            seconds.append(time.process_time() - start)
        found.append(best_overlaps(boxes, np.array(objects, dtype=np.float64), counts))
        lengths.append(len(boxes))
    if not found:
        raise InputError("--dataset: no image has a box, so recall cannot be measured; give a dataset with boxes")
    mean_seconds = np.mean(seconds).item() if seconds else None
    return ProposalRecall(np.concatenate(found, axis=1), counts, len(found), np.mean(lengths).item(), mean_seconds)


def recall_table(recalls: dict[str, ProposalRecall]) -> str:
    """Format a table with a row for each set of proposals; all must be measured at the same counts."""
    counts = " / ".join(str(count) for count in next(iter(recalls.values())).counts)
    rows = []
    for name, recall in recalls.items():
        cells = [" / ".join(f"{value:.3f}".lstrip("0") for value in row) for row in recall.table_values().values()]
        seconds = "" if recall.seconds is None else f"{recall.seconds:.2f}"
        rows.append([name, *cells, f"{recall.mean_proposals:.0f}", seconds])
    headers = [f"best {counts}", "recall at IoU 0.5", "at IoU 0.7", "average recall", "proposals", "CPU s per image"]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
