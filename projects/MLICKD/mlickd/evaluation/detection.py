"""Evaluator of the regions of a weakly-supervised detector, on the classes that have boxes."""

from __future__ import annotations

import logging
from collections import OrderedDict, defaultdict

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode
from tabulate import tabulate

from mlickd.errors import InputError

from .base import RecordEvaluator
from .detection_metrics import (
    COCO_MAX_DETECTIONS,
    Detections,
    GroundTruth,
    coco_average_precision,
    corloc,
    voc_detection_average_precision,
)
from .ranking import AVERAGE_PRECISION_RULES

logger = logging.getLogger(__name__)

IOU_THRESHOLD = 0.5


class WeakDetectionEvaluator(RecordEvaluator):
    """
    Evaluates ``instances`` with ``pred_boxes``, ``scores``, ``pred_classes`` on the records with boxes.

    Reports AP50 (pycocotools), VOC_AP (VOC's rule) and CorLoc, all at IoU 0.5, over the metadata's
    ``box_classes`` that have an object. Objects marked ``iscrowd`` or ``difficult`` count neither as found
    nor as missed. With ``output_dir`` it writes ``detection_results.json``. On a dataset without boxes it
    does nothing.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        voc_ap: str | None = None,
        output_dir: str | None = None,
        records: list[dict] | None = None,
        class_names: list[str] | None = None,
        box_classes: list[int] | None = None,
    ):
        """
        Args:
            dataset_name, output_dir, records, class_names: see :class:`RecordEvaluator`.
            voc_ap: "voc12" or "voc07"; by default "voc07" where the metadata's ``year`` is 2007, else
                "voc12".
            box_classes: class indices that have boxes; by default the metadata's, or else those annotated.

        Raises:
            InputError: a bad dataset, an unknown ``voc_ap``.
        """
        super().__init__(dataset_name, output_dir=output_dir, records=records, class_names=class_names)
        metadata = MetadataCatalog.get(dataset_name)
        self.voc_ap = voc_ap or ("voc07" if metadata.get("year") == 2007 else "voc12")
        if self.voc_ap not in AVERAGE_PRECISION_RULES:
            raise InputError(f"evaluation of '{dataset_name}': unknown voc_ap '{voc_ap}', use voc12 or voc07")

        self.boxed_records = [record for record in self.records if "annotations" in record]
        annotated = {a["category_id"] for record in self.boxed_records for a in record["annotations"]}
        self.box_classes = sorted(metadata.get("box_classes", annotated) if box_classes is None else box_classes)
        if not self.boxed_records or not self.box_classes:
            self.box_classes = []
            logger.info(f"{dataset_name} has no boxes: detection is not evaluated")

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """
        Args:
            inputs: B records with ``image_id``.
            outputs: B dicts with ``instances``, boxes in the original image's pixels.

        Raises:
            InputError: a box or a score that is not finite.
        """
        if not self.box_classes:
            return
        for record, output in zip(inputs, outputs, strict=True):
            instances = output["instances"]
            boxes = instances.pred_boxes.tensor.detach().to("cpu", torch.float64).numpy()
            scores = instances.scores.detach().to("cpu", torch.float64).numpy()
            labels = instances.pred_classes.detach().cpu().numpy()
            if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
                raise InputError(
                    f"image '{record['image_id']}': a detected box or its score is not finite: look for NaN "
                    "in the weights"
                )
            kept = np.isin(labels, self.box_classes)
            self.add(record["image_id"], (boxes[kept], scores[kept], labels[kept]))

    def evaluate(self) -> OrderedDict:
        """
        Returns:
            ``{"detection": {"AP50", "VOC_AP", "CorLoc": percent}}``; empty without boxes, and on all but the
            main process.

        Raises:
            InputError: a record of the dataset has no prediction, or a prediction has no record.
        """
        if not self.box_classes:
            return OrderedDict()
        predictions = self.gather()
        if predictions is None:
            return OrderedDict()

        detections = self._detections(predictions)
        ground_truth = self._ground_truth()
        coco = coco_average_precision(self.boxed_records, detections, iou_threshold=IOU_THRESHOLD)
        per_class = {}
        for label in self.box_classes:
            found, objects = detections[label], ground_truth[label]
            positive = [image_id for image_id, (_, ignored) in objects.items() if not ignored.all()]
            per_class[self.class_names[label]] = {
                "AP50": 100.0 * coco[label],
                "VOC_AP": 100.0
                * voc_detection_average_precision(found, objects, iou_threshold=IOU_THRESHOLD, ap=self.voc_ap),
                "CorLoc": 100.0 * corloc(found, objects, iou_threshold=IOU_THRESHOLD),
                "positive_images": len(positive),
                "positive_images_without_region": sum(image_id not in found for image_id in positive),
            }
        evaluated = [values for values in per_class.values() if values["positive_images"]]
        results = {
            key: float(np.mean([values[key] for values in evaluated])) if evaluated else float("nan")
            for key in ("AP50", "VOC_AP", "CorLoc")
        }
        if self.output_dir:
            self._write(results, per_class)
        self._log(results, per_class)
        return OrderedDict(detection=results)

    def _detections(self, predictions: list) -> dict[int, Detections]:
        detections: dict[int, dict] = {label: {} for label in self.box_classes}
        for record, (boxes, scores, labels) in zip(self.records, predictions, strict=True):
            if "annotations" in record:
                for label in np.unique(labels).tolist():
                    detections[label][record["image_id"]] = (boxes[labels == label], scores[labels == label])
        return detections

    def _ground_truth(self) -> dict[int, GroundTruth]:
        objects: dict[int, dict] = {label: defaultdict(list) for label in self.box_classes}
        for record in self.boxed_records:
            for annotation in record["annotations"]:
                if annotation["category_id"] in objects:
                    box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
                    ignored = bool(annotation.get("iscrowd", 0) or annotation.get("difficult", 0))
                    objects[annotation["category_id"]][record["image_id"]].append((box, ignored))
        return {
            label: {
                image_id: (np.array([box for box, _ in items]), np.array([ignored for _, ignored in items]))
                for image_id, items in images.items()
            }
            for label, images in objects.items()
        }

    def _write(self, results: dict[str, float], per_class: dict[str, dict]) -> None:
        self.write_json(
            "detection_results.json",
            {
                "dataset": self.dataset_name,
                "unit": "percent",
                "metrics": results,
                "per_class": per_class,
                "protocol": {
                    "iou_threshold": IOU_THRESHOLD,
                    "AP50": f"pycocotools, 101 recall points, at most {COCO_MAX_DETECTIONS} detections of a "
                    "class in an image",
                    "VOC_AP": f"VOC devkit matching, {AVERAGE_PRECISION_RULES[self.voc_ap]}; equal scores "
                    "enter together",
                    "CorLoc": "share of positive images where the best region of the class hits an object",
                    "classes": "those with boxes and an object that is neither crowd nor difficult",
                    "images": len(self.boxed_records),
                    "images_without_annotations": len(self.records) - len(self.boxed_records),
                },
            },
        )

    def _log(self, results: dict[str, float], per_class: dict[str, dict]) -> None:
        keys = list(results)
        rows = [[name] + [values[key] for key in keys] for name, values in per_class.items()]
        rows.append(["mean", *results.values()])
        table = tabulate(rows, headers=["class", *keys], tablefmt="pipe", floatfmt=".2f")
        logger.info(
            f"Detection metrics on {self.dataset_name} (%), IoU {IOU_THRESHOLD}, "
            f"{len(self.boxed_records)} images, VOC_AP by {self.voc_ap}:\n{table}"
        )
        absent = [name for name, values in per_class.items() if not values["positive_images"]]
        if absent:
            logger.warning(f"Classes without an object, left out of the means: {', '.join(absent)}")
        pairs, without_region = (
            sum(values[key] for values in per_class.values())
            for key in ("positive_images", "positive_images_without_region")
        )
        if without_region:
            logger.warning(
                f"{without_region} of {pairs} positive (image, class) pairs have no region: missed "
                "in CorLoc: lower MODEL.ROI_HEADS.SCORE_THRESH_TEST or raise TEST.DETECTIONS_PER_IMAGE"
            )
