"""The evaluator of image scores of teachers and students, and the base class of evaluators."""

import logging
import os
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from detectron2.evaluation.evaluator import DatasetEvaluator
from detectron2.utils import comm
from tabulate import tabulate

from mlickd.data import catalog
from mlickd.data.records import label_targets
from mlickd.errors import InputError
from mlickd.files import write_json

from .counting import prediction_prefixes
from .metrics import multilabel_metrics
from .score_files import REPORT_FILE, SCORES_FILE, write_scores

logger = logging.getLogger(__name__)

# Image scores that are sums, such as WSDDN's, may leave [0, 1] by this much, because of rounding.
_ROUNDING = 1e-4


class RecordEvaluator(DatasetEvaluator):
    """Base of evaluators that keep one prediction for each record of a dataset.

    Distributed samplers repeat images, so that every process has the same number. :meth:`gather` keeps the first
    prediction of each ``image_id`` and requires a prediction for every record.
    """

    reads_boxes = False

    def __init__(self, dataset_name: str, *, output_dir: str | None = None, records: list[dict] | None = None):
        """
        Args:
            dataset_name: registered dataset, recorded in the reports.
            output_dir: folder of the reports; None writes no reports.
            records: standard dataset dicts; by default the records of ``dataset_name``.
        """
        self.dataset_name = dataset_name
        self.output_dir = output_dir
        self.records = catalog.dataset_records(dataset_name, boxes=self.reads_boxes) if records is None else records
        self.class_names = catalog.class_names(dataset_name)
        self.image_ids = [str(record["image_id"]) for record in self.records]
        self.reset()

    def reset(self) -> None:
        """Remove all predictions."""
        self._predictions: list[tuple[str, Any]] = []

    def add(self, image_id: str | int, prediction: Any) -> None:
        """Keep a prediction for one image. Processes exchange predictions by pickling them."""
        self._predictions.append((str(image_id), prediction))

    def gather(self) -> list | None:
        """Return the predictions of all processes in the order of ``self.records``; None on all but the main process.

        Raises:
            InputError: the scored images are not the images of the dataset.
        """
        gathered = comm.gather(self._predictions)
        if not comm.is_main_process():
            return None
        predictions: dict[str, Any] = {}
        for image_id, prediction in (pair for part in gathered for pair in part):
            predictions.setdefault(image_id, prediction)
        different = sorted(predictions.keys() ^ set(self.image_ids))
        if different:
            raise InputError(
                f"dataset '{self.dataset_name}': the dataset and the predictions differ in {len(different)} images "
                f"(first: '{different[0]}'); evaluate with the test loader of this dataset"
            )
        return [predictions[image_id] for image_id in self.image_ids]

    def write_report(self, file_name: str, metrics: dict, per_class: dict, **details: Any) -> None:
        """Write metrics, metrics of each class and other details into ``output_dir`` as JSON."""
        report = {"dataset": self.dataset_name, "unit": "percent", "metrics": metrics, "per_class": per_class}
        write_json(os.path.join(self.output_dir, file_name), report | details)


class MultiLabelEvaluator(RecordEvaluator):
    """Evaluator of ``{"image_scores": (C,) probabilities}`` against the image labels with :func:`multilabel_metrics`.

    With ``output_dir`` it writes ``multilabel_results.json`` (metrics, per-class AP, counts, protocol, provenance) and
    ``image_scores.npz`` (see :class:`mlickd.evaluation.score_files.ImageScores`).
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        threshold: float = 0.5,
        topk: int = 3,
        ap: str = "ranking",
        provenance: dict | None = None,
        **options,
    ):
        """
        Args:
            dataset_name, options: see :class:`RecordEvaluator`.
            threshold, topk, ap: see :func:`multilabel_metrics`.
            provenance: further entries of ``multilabel_results.json``; must be JSON-serializable.

        Raises:
            InputError: the dataset is unknown, or a label is not in [0, C).
        """
        super().__init__(dataset_name, **options)
        self.threshold, self.topk, self.ap = threshold, topk, ap
        self.provenance = provenance or {}
        self.targets = label_targets(self.records, len(self.class_names))

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Keep the ``image_scores`` of a batch, a (C,) tensor for each image.

        Raises:
            InputError: the scores are not C probabilities.
        """
        for record, output in zip(inputs, outputs, strict=True):
            scores = output["image_scores"].detach().to("cpu", torch.float32).numpy()
            valid = (scores >= -_ROUNDING) & (scores <= 1 + _ROUNDING)  # False for NaN
            if scores.shape != (len(self.class_names),) or not valid.all():
                raise InputError(
                    f"dataset '{self.dataset_name}', image '{record['image_id']}': image_scores must be probabilities "
                    f"of {len(self.class_names)} classes, got shape {scores.shape} and values from {scores.min()} to "
                    f"{scores.max()}; check MODEL.NUM_CLASSES, and whether the weights contain NaN"
                )
            self.add(record["image_id"], np.clip(scores, 0.0, 1.0))

    def evaluate(self) -> OrderedDict:
        """Return ``{"multilabel": {metric: percent}}``; empty outside the main process. See :meth:`gather`."""
        predictions = self.gather()
        if predictions is None:
            return OrderedDict()
        scores = np.stack(predictions)
        metrics = multilabel_metrics(scores, self.targets, threshold=self.threshold, topk=self.topk, ap=self.ap)
        results = {key: 100.0 * value for key, value in metrics.items() if isinstance(value, float)}
        if self.output_dir:
            # A report without its scores would be incomplete, so the scores are written first.
            path = os.path.join(self.output_dir, SCORES_FILE)
            write_scores(path, self.image_ids, scores, self.targets, self.class_names)
            rows = zip(self.class_names, metrics["AP"], (self.targets == 1).sum(axis=0).tolist(), strict=True)
            per_class = {name: {"AP": 100.0 * ap, "positives": count} for name, ap, count in rows}
            counts = {key: value for key, value in metrics.items() if isinstance(value, int)}
            details = {"counts": counts, "protocol": metrics["protocol"], **self.provenance}
            self.write_report(REPORT_FILE, results, per_class, **details)
        self._log(metrics, results)
        return OrderedDict(multilabel=results)

    def _log(self, metrics: dict, results: dict[str, float]) -> None:
        protocol = metrics["protocol"]
        columns = ["CP", "CR", "CF1", "CF1_class_mean", "OP", "OR", "OF1"]
        rule, topk = protocol["threshold_rule"], f"top-{self.topk}"
        labels = zip(prediction_prefixes(self.topk), (rule, topk, f"{topk} with {rule}"), strict=True)
        rows = [[label] + [results[prefix + key] for key in columns] for prefix, label in labels]
        table = tabulate(rows, headers=["predicted", *columns], tablefmt="pipe", floatfmt=".2f")
        logger.info(f"Multi-label metrics on {self.dataset_name} (%): mAP {results['mAP']:.2f}\n{table}")
        logger.info(
            f"Protocol: {self.ap} AP ({protocol['ap_rule']}); {protocol['ties']}; "
            f"{metrics['images']} images ({metrics['images_without_positives']} of them without a positive, "
            f"{metrics['images_ignored']} others skipped because all labels are ignored); "
            f"class means use the {metrics['classes']} of {len(self.class_names)} classes with a positive image"
        )
