"""Evaluators of the regions of a weakly supervised detector, on the classes that have boxes."""

import logging
from collections import OrderedDict, defaultdict

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import inference_on_dataset
from detectron2.structures import BoxMode
from tabulate import tabulate
from torch import nn

from mlickd.data import build_test_loader, dataset_records

from .detection_metrics import (
    COCO_MAX_DETECTIONS,
    IOU_THRESHOLD,
    coco_average_precision,
    corloc,
    voc_detection_average_precision,
)
from .multilabel import RecordEvaluator
from .ranking import AVERAGE_PRECISION_RULES

logger = logging.getLogger(__name__)


class WeakDetectionEvaluator(RecordEvaluator):
    """Evaluator of ``instances`` with ``pred_boxes``, ``scores``, ``pred_classes`` on the records with boxes.

    Reports AP50 (pycocotools), VOC_AP (VOC's rule) and CorLoc at IoU 0.5, averaged over the classes that have an
    object. Objects with ``iscrowd`` or ``difficult`` do not count. With ``output_dir`` it writes
    ``detection_results.json``. On a dataset without boxes it does nothing.
    """

    reads_boxes = True

    def __init__(self, dataset_name: str, **options):
        """
        Args:
            dataset_name: registered dataset. If its metadata has the ``year`` 2007, VOC_AP uses the rule "voc07".
            options: see :class:`RecordEvaluator`.
        """
        super().__init__(dataset_name, **options)
        self.voc_ap = "voc07" if MetadataCatalog.get(dataset_name).get("year") == 2007 else "voc12"
        self.boxed_records = [record for record in self.records if "annotations" in record]
        self.box_classes = sorted({a["category_id"] for record in self.boxed_records for a in record["annotations"]})
        if not self.box_classes:
            logger.info(f"{dataset_name} has no boxes: detection is not evaluated")

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Keep the ``instances`` of a batch, with boxes in pixels of the original images."""
        if not self.box_classes:
            return
        for record, output in zip(inputs, outputs, strict=True):
            instances = output["instances"].to("cpu")
            boxes, scores = (x.detach().double().numpy() for x in (instances.pred_boxes.tensor, instances.scores))
            labels = instances.pred_classes.numpy()
            kept = np.isin(labels, self.box_classes)
            self.add(record["image_id"], (boxes[kept], scores[kept], labels[kept]))

    def evaluate(self) -> OrderedDict:
        """Return ``{"detection": {"AP50", "VOC_AP", "CorLoc": percent}}``; see :meth:`gather`.

        The result is empty without boxes and outside the main process.
        """
        predictions = self.gather() if self.box_classes else None
        if predictions is None:
            return OrderedDict()
        per_class = self._metrics_by_class(predictions)
        rows = [values for values in per_class.values() if values["positive_images"]]
        keys = ("AP50", "VOC_AP", "CorLoc")
        results = {key: float(np.mean([row[key] for row in rows])) if rows else float("nan") for key in keys}
        if self.output_dir:
            protocol = {
                "iou_threshold": IOU_THRESHOLD,
                "AP50": f"pycocotools, 101 recall points, at most {COCO_MAX_DETECTIONS} detections per class and image",
                "VOC_AP": f"VOC devkit matching, {AVERAGE_PRECISION_RULES[self.voc_ap]}; equal scores enter together",
                "CorLoc": "fraction of positive images whose best region of the class hits an object",
                "classes": "all classes with an object that is neither a crowd nor difficult",
                "images": len(self.boxed_records),
                "images_without_annotations": len(self.records) - len(self.boxed_records),
            }
            self.write_report("detection_results.json", results, per_class, protocol=protocol)
        self._log(results, per_class)
        return OrderedDict(detection=results)

    def _metrics_by_class(self, predictions: list) -> dict[str, dict]:
        detections: dict[int, dict] = {label: {} for label in self.box_classes}
        objects: dict[int, dict] = {label: defaultdict(list) for label in self.box_classes}
        for record, (boxes, scores, labels) in zip(self.records, predictions, strict=True):
            if "annotations" not in record:
                continue
            for label in np.unique(labels).tolist():
                detections[label][record["image_id"]] = (boxes[labels == label], scores[labels == label])
            for annotation in record["annotations"]:
                box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
                ignored = bool(annotation.get("iscrowd", 0) or annotation.get("difficult", 0))
                objects[annotation["category_id"]][record["image_id"]].append((box, ignored))

        coco = coco_average_precision(self.boxed_records, detections)
        per_class = {}
        for label, found in detections.items():
            truth = {image: tuple(map(np.array, zip(*items, strict=True))) for image, items in objects[label].items()}
            positive = [image_id for image_id, (_, ignored) in truth.items() if not ignored.all()]
            voc = voc_detection_average_precision(found, truth, ap=self.voc_ap)
            per_class[self.class_names[label]] = {
                "AP50": 100.0 * coco[label],
                "VOC_AP": 100.0 * voc,
                "CorLoc": 100.0 * corloc(found, truth),
                "positive_images": len(positive),
                "positive_images_without_region": sum(image_id not in found for image_id in positive),
            }
        return per_class

    def _log(self, results: dict[str, float], per_class: dict[str, dict]) -> None:
        rows = [[name] + [values[key] for key in results] for name, values in per_class.items()]
        rows.append(["mean", *results.values()])
        table = tabulate(rows, headers=["class", *results], tablefmt="pipe", floatfmt=".2f")
        logger.info(
            f"Detection metrics on {self.dataset_name} (%), IoU {IOU_THRESHOLD}, "
            f"{len(self.boxed_records)} images, VOC_AP by {self.voc_ap}:\n{table}"
        )
        absent = [name for name, values in per_class.items() if not values["positive_images"]]
        if absent:
            logger.warning(f"classes without an object, which the means leave out: {', '.join(absent)}")
        missed = sum(values["positive_images_without_region"] for values in per_class.values())
        if missed:
            logger.warning(
                f"{missed} positive (image, class) pairs have no region and count as missed in CorLoc: lower "
                "MODEL.ROI_HEADS.SCORE_THRESH_TEST or raise TEST.DETECTIONS_PER_IMAGE"
            )


class TrainingCorLoc:
    """CorLoc (see :func:`corloc`) of a teacher on a sample of its training images, averaged over the classes.

    CorLoc is defined on training images. Training reads boxes only for this metric.
    """

    def __init__(self, cfg: CfgNode):
        """Draw ``TEST.CORLOC_IMAGES`` images with boxes from each dataset of ``DATASETS.TRAIN``, with ``SEED``."""
        self.cfg = cfg
        self.samples: dict[str, list[dict]] = {}
        for name in cfg.DATASETS.TRAIN:
            boxed = [record for record in dataset_records(name) if record.get("annotations")]
            if not boxed:
                logger.info("%s has no boxes: CorLoc on training images is not measured (TEST.CORLOC_IMAGES)", name)
                continue
            generator = np.random.default_rng(max(cfg.SEED, 0))
            count = min(cfg.TEST.CORLOC_IMAGES, len(boxed))
            chosen = sorted(generator.choice(len(boxed), count, replace=False).tolist())
            self.samples[name] = [boxed[i] for i in chosen]

    def __call__(self, model: nn.Module) -> dict[str, dict[str, float]]:
        """Return ``{"CorLoc": {dataset: percent}}`` of a teacher; empty without boxes and outside the main process."""
        percent = {}
        for name, records in self.samples.items():
            loader = build_test_loader(self.cfg, name, records)
            results = inference_on_dataset(model, loader, WeakDetectionEvaluator(name, records=records))
            if results:
                percent[name] = results["detection"]["CorLoc"]
        return {"CorLoc": percent} if percent else {}
