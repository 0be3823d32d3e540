"""Thresholds of each class for a finished run, tuned on a held-out dataset."""

from __future__ import annotations

import json
import logging
import os

import numpy as np
from detectron2.config import CfgNode
from detectron2.evaluation import inference_on_dataset
from detectron2.utils.file_io import PathManager
from torch import nn

from mlickd.data import build_test_loader
from mlickd.data.catalog import UnknownDatasetError, class_names, dataset_records
from mlickd.engine import check_inputs
from mlickd.errors import InputError
from mlickd.evaluation import MultiLabelEvaluator
from mlickd.evaluation.score_files import SCORES_FILE, ImageScores, read_scores
from mlickd.evaluation.thresholds import THRESHOLDS_FILE, ClassThresholds, best_f1_thresholds, write_thresholds
from mlickd.files import file_digest
from mlickd.runs import load_run, provenance

__all__ = ["tune_thresholds"]

logger = logging.getLogger(__name__)


def tune_thresholds(run: str, dataset: str) -> ClassThresholds:
    """Choose the threshold of each class with the best F1 on a held-out dataset; write them into the run's folder.

    The model is run over the dataset, and leaves its scores in ``<run>/evaluation/inference/<dataset>``. Where those
    of the same checkpoint, configuration, images, labels and code are there already, they are taken.

    Args:
        run: folder of a finished run, its ``OUTPUT_DIR``.
        dataset: name of the held-out dataset.

    Raises:
        InputError: the run is not finished; the dataset does not fit it, or shares images with ``DATASETS.TEST``.
    """
    cfg, model = load_run(run)
    _check_held_out(cfg, dataset)
    checkpoint = cfg.MODEL.WEIGHTS
    cfg = _evaluation_config(cfg, run, dataset)
    scores = _scores(cfg, model, dataset)
    default = cfg.TEST.THRESHOLD
    thresholds, f1 = best_f1_thresholds(scores.scores, scores.targets, default)
    tuned = ClassThresholds(
        class_names=class_names(dataset),
        thresholds=thresholds.tolist(),
        f1=[None if np.isnan(value) else value for value in f1.tolist()],
        positives=(scores.targets == 1).sum(axis=0).tolist(),
        default_threshold=default,
        dataset=dataset,
        images=len(scores.image_ids),
        data_sha256=scores.data_digest(),
        checkpoint=os.path.basename(checkpoint),
        checkpoint_sha256=_checkpoint_digest(checkpoint),
    )
    write_thresholds(tuned, os.path.join(run, THRESHOLDS_FILE))
    return tuned


def _check_held_out(cfg: CfgNode, dataset: str) -> None:
    """Thresholds that have seen test images would make the test too good; training images, too confident scores."""
    held_out = {os.path.abspath(record["file_name"]) for record in dataset_records(dataset, boxes=False)}
    for key in ("TEST", "TRAIN"):
        for name in cfg.DATASETS[key]:
            try:
                records = dataset_records(name, boxes=False)
                names = class_names(name)
            except UnknownDatasetError:
                logger.warning("%s (DATASETS.%s of the run) is not here: not compared with %s", name, key, dataset)
                continue
            if names != class_names(dataset):
                raise InputError(
                    f"--dataset {dataset}: has other classes than {name}, DATASETS.{key} of the run; give one of the "
                    "same"
                )
            shared = sum(os.path.abspath(record["file_name"]) in held_out for record in records)
            if shared and key == "TEST":
                raise InputError(
                    f"--dataset {dataset}: {shared} of its {len(held_out)} images are in {name}, DATASETS.TEST of the "
                    "run; thresholds must not be tuned on test images: name a dataset without them"
                )
            if shared:
                logger.warning(
                    "%d of the %d images of %s are in %s: the model has been trained on them, its scores there are "
                    "surer than elsewhere, and so the thresholds may not suit other images",
                    shared, len(held_out), dataset, name,
                )  # fmt: skip


def _evaluation_config(cfg: CfgNode, run: str, dataset: str) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TEST = (dataset,)
    cfg.DATASETS.PROPOSALS.TEST_FILES = ()
    cfg.OUTPUT_DIR = os.path.join(run, "evaluation")
    classes = len(class_names(dataset))
    if classes != cfg.MODEL.NUM_CLASSES:
        raise InputError(
            f"--dataset {dataset}: has {classes} classes, the model of {run} {cfg.MODEL.NUM_CLASSES}; give one of its "
            "classes"
        )
    cfg.freeze()
    check_inputs(cfg, eval_only=True)
    return cfg


def _scores(cfg: CfgNode, model: nn.Module, dataset: str) -> ImageScores:
    folder = os.path.join(cfg.OUTPUT_DIR, "inference", dataset)
    source = provenance(cfg, dataset) | {"checkpoint": {"sha256": _checkpoint_digest(cfg.MODEL.WEIGHTS)}}
    if _is_of(folder, source):
        logger.info("Taking the scores that are in %s", folder)
    else:
        evaluator = MultiLabelEvaluator(
            dataset,
            threshold=cfg.TEST.THRESHOLD,
            topk=cfg.TEST.TOP_K,
            ap=cfg.TEST.AVERAGE_PRECISION,
            provenance=source,
            output_dir=folder,
        )
        inference_on_dataset(model, build_test_loader(cfg, dataset), evaluator)
    return read_scores(os.path.join(folder, SCORES_FILE))


def _is_of(folder: str, source: dict) -> bool:
    """Whether the report in a folder is of just this model, data and code."""
    report = os.path.join(folder, "multilabel_results.json")
    if not PathManager.isfile(report) or not PathManager.isfile(os.path.join(folder, SCORES_FILE)):
        return False
    try:
        with PathManager.open(report, "r") as file:
            found = json.load(file)
    except ValueError:
        return False
    return isinstance(found, dict) and all(found.get(key) == value for key, value in source.items() if key != "date")


def _checkpoint_digest(path: str) -> str:
    return file_digest(PathManager.get_local_path(path))
