"""Metrics of weakly supervised detection as pure functions: AP by VOC's rule, CorLoc, and COCO's AP at one IoU.

Boxes are (x0, y0, x1, y1) in continuous coordinates. VOC's boxes include their last pixel. The loader subtracts 1
from x0 and y0, so IoUs equal the devkit's. Scores are not rounded, because WSDDN's scores are so small that many
are equal after rounding to three decimals.
"""

import contextlib
import io
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
from detectron2.structures import BoxMode
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_iou

from .ranking import ranking_curve

# Detections of one class by image: boxes (D, 4) and scores (D,).
Detections = Mapping[Hashable, tuple[np.ndarray, np.ndarray]]
# Objects of one class by image: boxes (G, 4) and booleans (G,), True for objects to ignore (difficult, crowd).
GroundTruth = Mapping[Hashable, tuple[np.ndarray, np.ndarray]]

IOU_THRESHOLD = 0.5  # minimum IoU of a correct detection
COCO_MAX_DETECTIONS = 100  # per class and image, as in COCO's protocol


def voc_detection_average_precision(detections: Detections, ground_truth: GroundTruth, *, ap: str = "voc12") -> float:
    """Compute the detection AP of one class by the rule of the PASCAL VOC devkit.

    Each detection is compared with the object of its image that it overlaps most. With an IoU of at least
    ``IOU_THRESHOLD``, it is correct, unless a detection with a higher score matches the same object. With a lower IoU,
    it is a false positive. A detection of an ignored object does not count. Equal scores enter the curve together, so
    their order does not matter.

    Args:
        detections: boxes (D, 4) and scores (D,) by image.
        ground_truth: boxes (G, 4) and booleans (G,), True for ignored objects, by image; may lack images without
            objects.
        ap: "voc12", "voc07" or "ranking", see :func:`mlickd.evaluation.multilabel_metrics`.

    Returns:
        AP in 0..1; NaN without an object that counts.
    """
    positives = sum(int(np.count_nonzero(~np.asarray(ignored, dtype=bool))) for _, ignored in ground_truth.values())
    scores, correct = [np.zeros(0)], [np.zeros(0, dtype=bool)]
    for image_id, (boxes, image_scores) in detections.items():
        order = np.argsort(-image_scores, kind="stable")
        object_boxes, ignored = ground_truth.get(image_id, (np.zeros((0, 4)), np.zeros(0, dtype=bool)))
        overlap, best_object = _best_overlap(boxes[order], object_boxes)
        hit = overlap >= IOU_THRESHOLD
        first = np.zeros(len(order), dtype=bool)  # True for the highest-scoring hit of each object
        # Misses, which have the index -1 here, are removed by `hit &` below.
        first[np.unique(np.where(hit, best_object, -1), return_index=True)[1]] = True
        is_counted = ~(hit & np.append(ignored, False).astype(bool)[best_object])
        scores.append(image_scores[order][is_counted])
        correct.append((hit & first)[is_counted])
    scores, correct = np.concatenate(scores), np.concatenate(correct)
    return ranking_curve(scores, np.ones(len(scores), dtype=bool), correct).average_precision(ap, positives)


def corloc(detections: Detections, ground_truth: GroundTruth) -> float:
    """Compute the correct localization of one class (Deselaers et al., 2012): the fraction of positive images whose
    best-scoring region of the class overlaps an object of the class.

    An image is positive if it has an object that is not ignored. A positive image without regions counts as missed. If
    several regions have the best score, the image counts with the fraction of these regions that are correct.

    Args:
        detections, ground_truth: see :func:`voc_detection_average_precision`.

    Returns:
        CorLoc in 0..1; NaN without a positive image.
    """
    located = []
    for image_id, (object_boxes, ignored) in ground_truth.items():
        boxes, scores = detections.get(image_id, (np.zeros((0, 4)), np.zeros(0)))
        best = boxes[scores == scores.max()] if len(scores) else boxes
        if not np.all(ignored):
            hits = _best_overlap(best, object_boxes)[0] >= IOU_THRESHOLD
            located.append(float(hits.mean()) if len(best) else 0.0)
    return float(np.mean(located)) if located else float("nan")


def coco_average_precision(records: Sequence[dict], detections: Mapping[int, Detections]) -> dict[int, float]:
    """Compute the detection AP of each class with pycocotools at ``IOU_THRESHOLD``: 101 recall points, at most 100
    detections per class and image. Ties are ranked in the order of ``records``.

    Args:
        records: dicts with ``image_id`` and ``annotations``. Difficult objects are ignored like crowds, but
            matched with the ordinary IoU and at most once.
        detections: detections by class and ``image_id`` of the records.

    Returns:
        AP in 0..1 by class; NaN for a class without an object that counts.
    """
    classes = sorted(detections)
    objects, found = [], []
    for image, record in enumerate(records):
        for annotation in record["annotations"]:
            box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYWH_ABS)
            flags = {flag: int(annotation.get(flag, 0)) for flag in ("iscrowd", "difficult")}
            objects.append(_coco_annotation(image, annotation["category_id"], box) | flags)
        for label in classes:
            boxes, scores = detections[label].get(record["image_id"], ((), ()))
            for (x0, y0, x1, y1), score in zip(np.asarray(boxes, dtype=np.float64), scores, strict=True):
                found.append(_coco_annotation(image, label, (x0, y0, x1 - x0, y1 - y0)) | {"score": float(score)})

    with contextlib.redirect_stdout(io.StringIO()):
        datasets = (_coco_dataset(len(records), classes, annotations) for annotations in (objects, found))
        evaluation = _IgnoreDifficult(*datasets, iouType="bbox")
        evaluation.params.iouThrs = np.array([IOU_THRESHOLD])
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
    """COCOeval that ignores difficult objects like crowds, but matches them with the ordinary IoU and at most once."""

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
        # COCOeval uses id 0 for "not matched".
        "annotations": [annotation | {"id": i} for i, annotation in enumerate(annotations, start=1)],
    }
    dataset.createIndex()
    return dataset


def _best_overlap(boxes: np.ndarray, object_boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest IoU (D,) of each of (D, 4) boxes with (G, 4) objects, and the object's index (D,)."""
    if len(boxes) == 0 or len(object_boxes) == 0:
        return np.zeros(len(boxes)), np.zeros(len(boxes), dtype=np.int64)
    iou = box_iou(*(torch.as_tensor(np.asarray(b), dtype=torch.float64) for b in (boxes, object_boxes)))
    overlap, best_object = iou.max(dim=1)
    return overlap.numpy(), best_object.numpy()
