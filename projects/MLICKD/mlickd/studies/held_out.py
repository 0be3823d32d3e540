"""What is fitted on held-out images: the calibration of a teacher's scores, and a threshold for each class of a run."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from tqdm import tqdm

from mlickd.config import default_config
from mlickd.data import View, open_proposals
from mlickd.data.build import build_mapper
from mlickd.data.catalog import UnknownDatasetError, class_names, dataset_records
from mlickd.data.proposals.dataset_proposals import image_list_digest
from mlickd.data.records import label_targets
from mlickd.distillation import FrozenTeacher, KnowledgeRequest
from mlickd.distillation.cache import CachedKnowledge
from mlickd.distillation.calibration import Calibration, HeldOut, fit_platt_scaling
from mlickd.distillation.teacher_config import load_teacher_config, load_teacher_configs
from mlickd.engine.run_config import load_cache_config
from mlickd.errors import InputError
from mlickd.evaluation.thresholds import THRESHOLDS_FILE, ClassThresholds, best_f1_thresholds, write_thresholds
from mlickd.files import file_digest
from mlickd.modeling.losses import image_level_binary_cross_entropy
from mlickd.runs import run_class_names, run_config

from .robustness import scores_of_run

__all__ = ["calibrate_cache", "calibrate_run", "tune_thresholds"]

logger = logging.getLogger(__name__)


def tune_thresholds(run: str | os.PathLike[str], dataset: str) -> ClassThresholds:
    """Choose the threshold with the best F1 for each class, and write ``thresholds.json`` into the run's folder.

    The scores are kept in ``<run>/evaluation/inference/<dataset>``; see :func:`scores_of_run`.

    Args:
        run: folder of a finished run.
        dataset: name of a dataset that shares no image with ``DATASETS.TEST`` of the run.

    Raises:
        InputError: the run is not finished, or the dataset does not fit it or shares images with ``DATASETS.TEST``.
    """
    run = Path(run)
    cfg = run_config(run)
    names, records = class_names(dataset), dataset_records(dataset, boxes=False)
    if run_class_names(cfg, run) != names:
        raise InputError(
            f"--dataset {dataset}: has other classes than {run}; give a dataset with the classes of the run"
        )
    if shared := _shared_images(records, cfg.DATASETS.TEST, run):
        raise InputError(
            f"--dataset {dataset}: {len(shared)} of its {len(records)} images are in DATASETS.TEST of {run}; name a "
            "dataset without test images"
        )
    if shared := _shared_images(records, cfg.DATASETS.TRAIN, run):
        logger.warning(
            "%s was trained on %d of the %d images of %s: its scores on these are higher than on other images, so the "
            "thresholds may not suit other images", run, len(shared), len(records), dataset,
        )  # fmt: skip
    scores = scores_of_run(run, run / "evaluation" / "inference" / dataset, dataset)
    thresholds, f1 = best_f1_thresholds(scores.scores, scores.targets, cfg.TEST.THRESHOLD)
    tuned = ClassThresholds(
        class_names=names,
        thresholds=thresholds.tolist(),
        f1=[None if np.isnan(value) else value for value in f1.tolist()],
        positives=(scores.targets == 1).sum(axis=0).tolist(),
        default_threshold=cfg.TEST.THRESHOLD,
        dataset=dataset,
        images=len(records),
        data_sha256=scores.data_digest(),
        checkpoint=Path(cfg.MODEL.WEIGHTS).name,
        checkpoint_sha256=file_digest(cfg.MODEL.WEIGHTS),
    )
    write_thresholds(tuned, str(run / THRESHOLDS_FILE))
    return tuned


def calibrate_run(
    run: Path, dataset: str, *, checkpoint: str = "model_final.pth", temperature: float = 1.0, flip: bool = False
) -> Calibration:
    """Run a teacher on images that it was not trained on, and calibrate its scores.

    Args:
        run: folder of the teacher's training.
        dataset: name of the dataset of the images, which have labels and proposals.
        checkpoint: file name of the checkpoint in ``run``.
        temperature, flip: ``KD.PREDICTION.TEACHER_TEMPERATURE`` and ``KD.TEACHER.FLIP`` of the distillation.

    Raises:
        InputError: something is missing or does not fit, or the teacher was trained on one of the images.
    """
    if temperature <= 0:
        raise InputError(f"--temperature {temperature:g}: give a positive number, for instance 1")
    cfg = default_config()
    cfg.KD.TEACHER.WEIGHTS, cfg.KD.TEACHER.FLIP = str(run / checkpoint), flip
    cfg.MODEL.NUM_CLASSES = len(class_names(dataset))
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    cfg.DATASETS.TRAIN = (dataset,)
    records = dataset_records(dataset, boxes=False)
    teacher_cfg = load_teacher_config(cfg)
    _check_not_trained_on(teacher_cfg, dataset, records)
    proposals = open_proposals(teacher_cfg, dataset)
    proposals.check(records)
    teacher = FrozenTeacher(cfg, teacher_cfg, KnowledgeRequest())
    loader = build_detection_test_loader(
        dataset=records,
        mapper=partial(build_mapper(teacher_cfg, dataset, proposals), view=View(teacher_cfg.INPUT.SIZE_TEST)),
        batch_size=teacher_cfg.TEST.IMS_PER_BATCH,
        num_workers=teacher_cfg.DATALOADER.NUM_WORKERS,
    )
    scores: list[torch.Tensor | None] = []
    for batch in tqdm(loader, desc=dataset, unit="batch"):
        known = teacher([sample["image"] for sample in batch], [sample["proposals"] for sample in batch])
        for sample, regions in zip(batch, known, strict=True):
            scores.append(regions.as_knowledge(sample["proposals"].proposal_boxes.tensor, temperature).image_scores)
    return _calibrate(cfg, {dataset: teacher_cfg}, scores, temperature)


def calibrate_cache(config_file: str, options: list[str]) -> Calibration:
    """Calibrate the scores in a cross-fitted cache, each from a teacher that was not trained on the image.

    Args:
        config_file, options: configuration of the distillation; ``KD.CACHE`` has the knowledge of ``DATASETS.TRAIN``.

    Raises:
        InputError: the cache does not fit, or a teacher was trained on one of its images.
    """
    cfg = load_cache_config(config_file, options)[0].clone()
    cfg.defrost()
    # A calibration needs labels.
    cfg.DATASETS.UNLABELED = cfg.DATASETS.PROPOSALS.UNLABELED_FILES = ()
    teachers = load_teacher_configs(cfg)
    samples = []
    for name, teacher_cfg in teachers.items():
        records = dataset_records(name, boxes=False)
        _check_not_trained_on(teacher_cfg, name, records)
        view = View(cfg.INPUT.SIZE_TEST)
        samples += [{"dataset": name, "image_id": record["image_id"], "view": view} for record in records]
    knowledge = CachedKnowledge(cfg, KnowledgeRequest(), teachers)
    scores = [knowledge([sample])[0].image_scores for sample in tqdm(samples, desc="cache", unit="image")]
    return _calibrate(cfg, teachers, scores, cfg.KD.PREDICTION.TEACHER_TEMPERATURE)


def _calibrate(
    cfg: CfgNode, teachers: Mapping[str, CfgNode], scores: Sequence[torch.Tensor | None], temperature: float
) -> Calibration:
    """Fit the calibration.

    Args:
        cfg: configuration of the distillation.
        teachers: the teacher's configuration by dataset.
        scores: (C,) image scores of all images of the datasets, in order; None for an image without regions.
        temperature: temperature of the scores.
    """
    splits = {name: dataset_records(name, boxes=False) for name in teachers}
    names = class_names(next(iter(splits)))
    targets = label_targets([record for records in splits.values() for record in records], len(names))
    # An image without regions has no scores.
    targets = targets[[vector is not None for vector in scores]]
    known = torch.stack([vector.cpu() for vector in scores if vector is not None])
    slopes, intercepts = fit_platt_scaling(known.numpy(), targets)
    held_out = [
        HeldOut(name, image_list_digest(splits[name]), file_digest(teacher_cfg.MODEL.WEIGHTS))
        for name, teacher_cfg in teachers.items()
    ]
    calibration = Calibration(
        classes=tuple(names),
        slopes=tuple(slopes.tolist()),
        intercepts=tuple(intercepts.tolist()),
        temperature=float(temperature),
        held_out=tuple(held_out),
        flip=cfg.KD.TEACHER.FLIP,
    )
    if wrong := [name for name, slope in zip(names, slopes, strict=True) if slope <= 0]:
        logger.warning("For these classes, a higher score of the teacher is not more probable: %s", ", ".join(wrong))
    before, after = (
        image_level_binary_cross_entropy(values, torch.from_numpy(targets))
        for values in (known, calibration.apply(known))
    )
    logger.info("%d held-out images: cross-entropy of the scores %.3f, calibrated %.3f", len(known), before, after)
    return calibration


def _check_not_trained_on(teacher_cfg: CfgNode, dataset: str, records: Sequence[dict]) -> None:
    """Check that a teacher was not trained on the images: there, its scores are too good."""
    weights = teacher_cfg.MODEL.WEIGHTS
    if seen := _shared_images(records, teacher_cfg.DATASETS.TRAIN, weights):
        raise InputError(
            f"dataset {dataset}: {weights} was trained on {len(seen)} of its {len(records)} images, such as "
            f"{seen[0]['image_id']}; take other images, such as NAME@1of4 for a teacher of NAME@not1of4"
        )


def _shared_images(records: Sequence[dict], datasets: Sequence[str], model: object) -> list[dict]:
    """Return the records whose image is also in datasets of a model."""
    files: set[str] = set()
    for name in datasets:
        try:
            files.update(record["file_name"] for record in dataset_records(name, boxes=False))
        except UnknownDatasetError:
            logger.warning("%s, a dataset of %s, is not on this machine: its images are not compared", name, model)
    return [record for record in records if record["file_name"] in files]
