"""Evaluator of image-level scores: the same for teacher and student."""

from __future__ import annotations

import logging
from collections import OrderedDict

import numpy as np
import torch
from tabulate import tabulate

from mlickd.data.records import label_targets
from mlickd.errors import InputError

from .base import RecordEvaluator
from .metrics import check_protocol, multilabel_metrics
from .score_files import SCORES_FILE, write_scores
from .thresholds import ClassThresholds

logger = logging.getLogger(__name__)

# Image scores that are sums, such as WSDDN's, may leave [0, 1] by rounding, but not by more than this.
ROUNDING = 1e-4


class MultiLabelEvaluator(RecordEvaluator):
    """
    Evaluates ``{"image_scores": (C,) probabilities}`` against the image labels with
    :func:`multilabel_metrics`.

    With ``output_dir`` it writes ``multilabel_results.json`` (metrics, per-class AP, counts, protocol, provenance) and
    ``image_scores.npz`` (``image_ids`` (N,) unicode, ``scores`` (N, C) float32, ``targets`` (N, C) int8,
    ``class_names`` (C,) unicode), from which every number can be computed again.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        threshold: float = 0.5,
        topk: int = 3,
        ap: str = "ranking",
        class_thresholds: ClassThresholds | None = None,
        provenance: dict | None = None,
        corruption: str = "",
        output_dir: str | None = None,
        records: list[dict] | None = None,
        class_names: list[str] | None = None,
    ):
        """
        Args:
            dataset_name, output_dir, records, class_names: see :class:`RecordEvaluator`.
            threshold, topk, ap: see :func:`multilabel_metrics`.
            class_thresholds: those of each class, in place of ``threshold``.
            provenance: what else ``multilabel_results.json`` is to say of the numbers, ready for JSON.
            corruption: what the images are damaged by, for the protocol.

        Raises:
            InputError: a bad dataset, label, threshold, topk or ap; thresholds of other classes.
        """
        try:
            check_protocol(threshold, topk, ap)
        except ValueError as error:
            raise InputError(f"evaluation of '{dataset_name}': {error}; give another") from None
        super().__init__(dataset_name, output_dir=output_dir, records=records, class_names=class_names)
        self.topk, self.ap = topk, ap
        self.class_thresholds = class_thresholds
        if class_thresholds is not None:
            class_thresholds.check(f"thresholds of each class for '{dataset_name}'", self.class_names)
        self.threshold = threshold if class_thresholds is None else class_thresholds.thresholds
        self.provenance = provenance or {}
        self.corruption = corruption
        self.targets = label_targets(self.records, len(self.class_names))

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """
        Args:
            inputs: B records with ``image_id``.
            outputs: B dicts with ``image_scores``, a (C,) tensor of probabilities.

        Raises:
            InputError: a wrong number of scores, or scores that are no probabilities.
        """
        for record, output in zip(inputs, outputs, strict=True):
            scores = output["image_scores"].detach().to("cpu", torch.float32).numpy()
            if scores.shape != (len(self.class_names),):
                raise InputError(
                    f"image '{record['image_id']}': image_scores has shape {scores.shape}, but dataset "
                    f"'{self.dataset_name}' has {len(self.class_names)} classes: set MODEL.NUM_CLASSES to that"
                )
            if not ((scores >= -ROUNDING) & (scores <= 1 + ROUNDING)).all():
                raise InputError(
                    f"image '{record['image_id']}': image_scores must be probabilities in [0, 1], got "
                    f"{scores.min()} to {scores.max()}: return probabilities, and look for NaN in the weights"
                )
            self.add(record["image_id"], np.clip(scores, 0.0, 1.0))

    def evaluate(self) -> OrderedDict:
        """
        Returns:
            ``{"multilabel": {metric: percent}}`` with the scalars of :func:`multilabel_metrics`; empty on all
            but the main process.

        Raises:
            InputError: a record of the dataset has no scores, or scores have no record.
        """
        predictions = self.gather()
        if predictions is None:
            return OrderedDict()
        scores = np.stack(predictions)
        metrics = multilabel_metrics(scores, self.targets, threshold=self.threshold, topk=self.topk, ap=self.ap)
        if self.class_thresholds is not None:
            metrics["protocol"]["thresholds_tuned_on"] = self.class_thresholds.tuned_on()
        if self.corruption:
            metrics["protocol"]["corruption"] = self.corruption
        results = {key: 100.0 * value for key, value in metrics.items() if isinstance(value, float)}
        if self.output_dir:
            self._write(metrics, results, scores)
        self._log(metrics, results)
        return OrderedDict(multilabel=results)

    def _write(self, metrics: dict, results: dict[str, float], scores: np.ndarray) -> None:
        per_class = {
            name: {"AP": 100.0 * ap, "positives": int(positives)}
            for name, ap, positives in zip(
                self.class_names, metrics["AP"], (self.targets == 1).sum(axis=0), strict=True
            )
        }
        # First the scores: who finds a report finds the scores that it is of.
        write_scores(self.output_path(SCORES_FILE), self.image_ids, scores, self.targets, self.class_names)
        self.write_json(
            "multilabel_results.json",
            {
                "dataset": self.dataset_name,
                "unit": "percent",
                "metrics": results,
                "per_class": per_class,
                "counts": {key: value for key, value in metrics.items() if isinstance(value, int)},
                "protocol": metrics["protocol"],
                **self.provenance,
            },
        )

    def _log(self, metrics: dict, results: dict[str, float]) -> None:
        protocol = metrics["protocol"]
        columns = ["CP", "CR", "CF1", "CF1_class_mean", "OP", "OR", "OF1"]
        rows = {
            "": protocol["threshold_rule"],
            f"top{self.topk}/": f"top-{self.topk}",
            f"top{self.topk}_thresholded/": f"top-{self.topk} with {protocol['threshold_rule']}",
        }
        table = tabulate(
            [[label] + [results[prefix + key] for key in columns] for prefix, label in rows.items()],
            headers=["predicted", *columns],
            tablefmt="pipe",
            floatfmt=".2f",
        )
        logger.info(f"Multi-label metrics on {self.dataset_name} (%): mAP {results['mAP']:.2f}\n{table}")
        logger.info(
            f"Protocol: {f'images damaged by {self.corruption}; ' if self.corruption else ''}"
            f"{self.ap} AP ({protocol['ap_rule']}); {protocol['ties']}; "
            f"{metrics['images']} images ({metrics['images_without_positives']} of them without a positive, "
            f"{metrics['images_ignored']} more left out with no target known); "
            f"{metrics['classes']} of {len(self.class_names)} classes have a positive and enter class means"
        )
        if metrics["classes_without_positives"]:
            has_positive = (self.targets == 1).any(axis=0)
            names = [name for name, has in zip(self.class_names, has_positive, strict=True) if not has]
            logger.warning(
                f"{len(names)} classes of {self.dataset_name} have no positive image and are left out of the "
                f"class means: {', '.join(names)}"
            )
