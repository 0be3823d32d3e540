"""How many objects proposals find: recall at an IoU, and average recall, by the number of proposals of an image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.structures import BoxMode
from tabulate import tabulate
from torchvision.ops import box_iou

from mlickd.errors import InputError

__all__ = ["IOU_THRESHOLDS", "ProposalRecall", "best_overlaps", "measure_recall", "proposal_recall", "recall_table"]

# Of average recall, as in COCO and in Hosang et al. (2016).
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)


@dataclass(frozen=True)
class ProposalRecall:
    """What was measured of one set of proposals.

    Attributes:
        overlaps: (K, M) largest IoU of each of M objects with the best ``counts[k]`` proposals of its image.
        counts: K numbers of proposals, ascending.
        num_images: images with an object that counts.
        mean_proposals: proposals there are of an image.
        seconds: of the processor, to make them for one image; None where they were made before.
    """

    overlaps: np.ndarray
    counts: tuple[int, ...]
    num_images: int
    mean_proposals: float
    seconds: float | None = None

    def recall(self, iou_threshold: float) -> np.ndarray:
        """Recall (K,) at one IoU."""
        return proposal_recall(self.overlaps, [iou_threshold])[:, 0]

    def average_recall(self) -> np.ndarray:
        """(K,): the mean of the recalls at IoU 0.5, 0.55, ..., 0.95."""
        return proposal_recall(self.overlaps, IOU_THRESHOLDS).mean(axis=1)

    def summary(self) -> dict:
        """Whatever JSON can hold: recalls by number of proposals, and what they are of."""
        values = {"recall@0.5": self.recall(0.5), "recall@0.7": self.recall(0.7), "AR": self.average_recall()}
        return {
            "proposals": {
                str(count): {name: float(value[k]) for name, value in values.items()}
                for k, count in enumerate(self.counts)
            },
            "objects": self.overlaps.shape[1],
            "images": self.num_images,
            "mean_proposals": self.mean_proposals,
            "cpu_seconds_per_image": self.seconds,
        }


def best_overlaps(boxes: np.ndarray, objects: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """For each object of an image the largest IoU with the first proposals.

    Args:
        boxes: (R, 4) proposals, best first, (x0, y0, x1, y1).
        objects: (G, 4).
        counts: K numbers of proposals.

    Returns:
        (K, G) in 0..1; 0 where there is no proposal.
    """
    if len(boxes) == 0 or len(objects) == 0:
        return np.zeros((len(counts), len(objects)))
    # A copy: the boxes of a store cannot be written to, which torch warns of.
    iou = box_iou(*(torch.tensor(np.asarray(b), dtype=torch.float64) for b in (boxes, objects)))
    so_far = iou.cummax(dim=0).values.numpy()
    return np.stack([so_far[min(count, len(boxes)) - 1] if count else np.zeros(len(objects)) for count in counts])


def proposal_recall(overlaps: np.ndarray, iou_thresholds: Sequence[float]) -> np.ndarray:
    """The share of objects that some proposal overlaps at least so much. One proposal may find several objects.

    Args:
        overlaps: (K, M) of :func:`best_overlaps`, the objects of all images side by side.
        iou_thresholds: T of them, inclusive.

    Returns:
        (K, T) in 0..1; NaN without objects.
    """
    if overlaps.shape[1] == 0:
        return np.full((len(overlaps), len(iou_thresholds)), np.nan)
    return (overlaps[:, :, None] >= np.asarray(iou_thresholds)).mean(axis=1)


def measure_recall(
    records: Iterable[dict],
    proposals: Callable[[dict], np.ndarray],
    counts: Sequence[int],
    source: str,
) -> ProposalRecall:
    """Recall of the objects of a dataset. Those marked ``iscrowd`` or ``difficult`` are left out.

    Args:
        records: with ``image_id`` and ``annotations``; a record without them is left out.
        proposals: boxes (R, 4) of a record, best first, in pixels of the image.
        counts: numbers of proposals.
        source: what to name in messages.

    Raises:
        InputError: there is no object.
    """
    counts = tuple(sorted(set(counts)))
    found, lengths = [], []
    for record in records:
        objects = _objects(record)
        if len(objects):
            boxes = proposals(record)
            found.append(best_overlaps(boxes, objects, counts))
            lengths.append(len(boxes))
    if not found:
        raise InputError(f"{source}: no image has a box, so no recall can be measured; take a dataset with boxes")
    return ProposalRecall(np.concatenate(found, axis=1), counts, len(found), float(np.mean(lengths)))


def recall_table(recalls: dict[str, ProposalRecall], table_format: str = "github") -> str:
    """A row for each set of proposals: recall at IoU 0.5 and 0.7 and average recall for each of the counts.

    Args:
        recalls: by name; all with the same counts.
        table_format: of tabulate.
    """
    counts = " / ".join(str(count) for count in next(iter(recalls.values())).counts)
    rows = []
    for name, recall in recalls.items():
        values = (recall.recall(0.5), recall.recall(0.7), recall.average_recall())
        cells = [" / ".join(f"{value:.3f}".lstrip("0") for value in row) for row in values]
        seconds = "" if recall.seconds is None else f"{recall.seconds:.2f}"
        rows.append([name, *cells, f"{recall.mean_proposals:.0f}", seconds])
    headers = [f"best {counts}", "recall at IoU 0.5", "at IoU 0.7", "average recall", "proposals", "CPU s an image"]
    return tabulate(rows, headers=headers, tablefmt=table_format, disable_numparse=True)


def _objects(record: dict) -> np.ndarray:
    boxes = [
        BoxMode.convert(list(item["bbox"]), item["bbox_mode"], BoxMode.XYXY_ABS)
        for item in record.get("annotations", ())
        if not item.get("iscrowd", 0) and not item.get("difficult", 0)
    ]
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)
