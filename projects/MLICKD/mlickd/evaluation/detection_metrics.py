"""
Metrics of weakly-supervised detection as pure functions: AP by VOC's rule, CorLoc, and COCO's AP at one IoU.

Boxes are (x0, y0, x1, y1) in continuous coordinates: VOC's inclusive pixel boxes, once x0 and y0 are lowered
by 1 as Detectron2 does, give the IoUs of the VOC devkit exactly. Scores keep the precision they come in:
WSDDN's are so small that three decimals turn many of them into ties.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
from detectron2.structures import BoxMode
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_iou

from .ranking import area_under_curve, threshold_counts

# Of one class, by image: boxes (D, 4) and scores (D,).
Detections = Mapping[Hashable, tuple[np.ndarray, np.ndarray]]
# Of one class, by image: boxes (G, 4) and booleans (G,) that mark the objects to ignore (difficult, crowd).
GroundTruth = Mapping[Hashable, tuple[np.ndarray, np.ndarray]]

COCO_MAX_DETECTIONS = 100  # of a class in an image, as in COCO's own protocol


def voc_detection_average_precision(
    detections: Detections, ground_truth: GroundTruth, *, iou_threshold: float = 0.5, ap: str = "voc12"
) -> float:
    """
    Detection AP of one class by the rule of the PASCAL VOC devkit.

    Each detection is compared with the object of its image that it overlaps most. From ``iou_threshold`` on
    it is correct if no higher-scoring detection has that object, and false otherwise; on an ignored object it
    counts neither way. Below the threshold it is false. Equal scores enter the curve together, so their order
    changes nothing.

    Args:
        detections: by image, boxes (D, 4) and scores (D,).
        ground_truth: by image, boxes (G, 4) and ignored flags (G,); an image that is not there holds no
            object.
        iou_threshold: least IoU of a correct detection (inclusive).
        ap: "voc12", "voc07" or "ranking", see :func:`mlickd.evaluation.average_precision`.

    Returns:
        AP in 0..1; NaN when there is no object that counts.
    """
    positives, objects = 0, 0
    first_object = {}
    for image_id, (_, ignored) in ground_truth.items():
        first_object[image_id] = objects
        objects += len(ignored)
        positives += int(np.count_nonzero(~np.asarray(ignored, dtype=bool)))

    scores, matches = [np.zeros(0)], [np.zeros(0, dtype=np.int64)]  # index of the object, -1: none
    for image_id, (boxes, image_scores) in detections.items():
        image_scores = np.asarray(image_scores, dtype=np.float64)
        object_boxes, ignored = ground_truth.get(image_id, (np.zeros((0, 4)), np.zeros(0, dtype=bool)))
        overlap, nearest = _nearest_object(boxes, object_boxes)
        hit = overlap >= iou_threshold
        counts = ~(hit & np.append(ignored, False).astype(bool)[nearest])
        scores.append(image_scores[counts])
        matches.append(np.where(hit, first_object.get(image_id, 0) + nearest, -1)[counts])

    scores, matches = np.concatenate(scores), np.concatenate(matches)
    order = np.argsort(-scores, kind="stable")
    scores, matches = scores[order], matches[order]
    correct = np.zeros(len(matches), dtype=bool)
    correct[np.unique(matches, return_index=True)[1]] = True  # the first, hence best-scoring, on each object
    correct &= matches >= 0
    return area_under_curve(*threshold_counts(scores, correct), positives, ap)


def corloc(detections: Detections, ground_truth: GroundTruth, *, iou_threshold: float = 0.5) -> float:
    """
    Correct localization of one class (Deselaers et al., 2012): the share of positive images whose
    best-scoring region of the class overlaps some object of the class.

    An image is positive when it holds an object that is not ignored; without a region it counts as missed.
    Where several
    regions share the best score, the image counts with the share of them that are right: what picking one at
    random gets on average.

    Args:
        detections, ground_truth, iou_threshold: see :func:`voc_detection_average_precision`.

    Returns:
        CorLoc in 0..1; NaN without a positive image.
    """
    located = []
    for image_id, (object_boxes, ignored) in ground_truth.items():
        if np.all(ignored):
            continue
        boxes, scores = detections.get(image_id, (np.zeros((0, 4)), np.zeros(0)))
        if len(scores) == 0:
            located.append(0.0)
            continue
        best = np.asarray(boxes)[scores == np.max(scores)]
        located.append(float((_nearest_object(best, object_boxes)[0] >= iou_threshold).mean()))
    return float(np.mean(located)) if located else float("nan")


def coco_average_precision(
    records: Sequence[dict], detections: Mapping[int, Detections], *, iou_threshold: float = 0.5
) -> dict[int, float]:
    """
    Detection AP of each class by pycocotools at one IoU: 101 recall points, at most 100 detections of a class
    in an image, equal scores in the order of ``records``.

    Args:
        records: dicts with ``image_id`` and ``annotations``. Crowds are matched by COCO's rule; an object
            that is ``difficult`` is ignored, with the ordinary IoU.
        detections: for each class to evaluate, what was found of it, keyed by the ``image_id`` of the
            records.
        iou_threshold: least IoU of a correct detection.

    Returns:
        AP in 0..1 by class; NaN for a class without an object that counts.
    """
    classes = sorted(detections)
    objects, found = [], []
    for image, record in enumerate(records):
        for annotation in record["annotations"]:
            box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYWH_ABS)
            objects.append(
                _coco_annotation(image, annotation["category_id"], box)
                | {
                    "iscrowd": int(bool(annotation.get("iscrowd", 0))),
                    "difficult": bool(annotation.get("difficult", 0)),
                }
            )
        for label in classes:
            boxes, scores = detections[label].get(record["image_id"], ((), ()))
            for (x0, y0, x1, y1), score in zip(np.asarray(boxes, dtype=np.float64), scores, strict=True):
                found.append(_coco_annotation(image, label, (x0, y0, x1 - x0, y1 - y0)) | {"score": float(score)})

    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _IgnoreDifficult(
            _coco_dataset(len(records), classes, objects),
            _coco_dataset(len(records), classes, found),
            iouType="bbox",
        )
        evaluation.params.iouThrs = np.array([iou_threshold])
        evaluation.params.maxDets = [COCO_MAX_DETECTIONS]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0.0, np.inf]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][0, :, :, 0, 0]  # (recall points, classes), -1 for a class without objects
    return {
        label: float("nan") if values[0] < 0 else float(values.mean())
        for label, values in zip(classes, precision.T, strict=True)
    }


class _IgnoreDifficult(COCOeval):
    """COCOeval overwrites ``ignore`` with ``iscrowd``, which would match a difficult object as a crowd."""

    def _prepare(self) -> None:
        super()._prepare()
        for objects in self._gts.values():
            for item in objects:
                item["ignore"] = item["ignore"] or item["difficult"]


def _coco_annotation(image: int, label: int, box: Sequence[float]) -> dict:
    return {"image_id": image, "category_id": label, "bbox": list(box), "area": box[2] * box[3]}


def _coco_dataset(images: int, classes: Sequence[int], annotations: list[dict]) -> COCO:
    dataset = COCO()
    dataset.dataset = {
        "images": [{"id": image} for image in range(images)],
        "categories": [{"id": label} for label in classes],
        # From 1: COCOeval takes id 0 for "not matched".
        "annotations": [annotation | {"id": i} for i, annotation in enumerate(annotations, start=1)],
    }
    dataset.createIndex()
    return dataset


def _nearest_object(boxes: np.ndarray, object_boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest IoU (D,) of each of (D, 4) boxes with (G, 4) objects, and which (D,); zeros without objects."""
    if len(boxes) == 0 or len(object_boxes) == 0:
        return np.zeros(len(boxes)), np.zeros(len(boxes), dtype=np.int64)
    iou = box_iou(*(torch.as_tensor(np.asarray(b), dtype=torch.float64) for b in (boxes, object_boxes)))
    overlap, nearest = iou.max(dim=1)
    return overlap.numpy(), nearest.numpy()
