"""From the command line of ``tools/calibrate_teacher.py`` to a calibration of a teacher's image scores."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.utils.file_io import PathManager
from tqdm import tqdm

from mlickd.config import default_config
from mlickd.data import View, open_proposals
from mlickd.data.build import build_mapper
from mlickd.data.catalog import UnknownDatasetError, class_names, dataset_records
from mlickd.data.proposals.generation import image_list_digest
from mlickd.data.records import label_targets
from mlickd.distillation import FrozenTeacher, KnowledgeRequest
from mlickd.distillation.cache import CachedKnowledge
from mlickd.distillation.calibration import Calibration, HeldOut, fit_platt_scaling
from mlickd.distillation.teacher_config import DATASET, load_teacher_config, load_teacher_configs
from mlickd.engine.caching import prepare_caching
from mlickd.errors import InputError
from mlickd.files import file_digest
from mlickd.modeling.losses import image_level_binary_cross_entropy

__all__ = ["calibrate_cache", "calibrate_run"]

logger = logging.getLogger(__name__)


def calibrate_run(
    run: str | os.PathLike[str],
    dataset: str,
    *,
    checkpoint: str = "model_final.pth",
    temperature: float = 1.0,
    flip: bool = False,
) -> Calibration:
    """Run a teacher on photos that it was not trained on, and calibrate what it says of them.

    Args:
        run: folder of its training.
        dataset: name of the dataset of the photos, which have labels and proposals.
        checkpoint: its name in ``run``.
        temperature, flip: ``KD.PREDICTION.TEACHER_TEMPERATURE`` and ``KD.TEACHER.FLIP`` of the distillation.

    Raises:
        InputError: something is missing or does not fit, or the teacher was trained on one of the photos.
    """
    if temperature <= 0:
        raise InputError(f"--temperature {temperature:g} must be positive; give such a number, for instance 1")
    cfg = default_config()
    cfg.KD.TEACHER.WEIGHTS = str(Path(run) / checkpoint)
    cfg.KD.TEACHER.FLIP = flip
    cfg.MODEL.NUM_CLASSES = len(class_names(dataset))
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    cfg.DATASETS.TRAIN = (dataset,)
    records = dataset_records(dataset, boxes=False)
    teacher_cfg = load_teacher_config(cfg)
    _check_held_out(teacher_cfg, cfg.KD.TEACHER.WEIGHTS, dataset, records)
    proposals = open_proposals(teacher_cfg, dataset)
    proposals.check(records)
    teacher = FrozenTeacher(cfg, teacher_cfg, KnowledgeRequest())
    mapper = build_mapper(teacher_cfg, dataset, proposals)
    loader = build_detection_test_loader(
        dataset=records,
        mapper=partial(mapper, view=View(teacher_cfg.INPUT.SIZE_TEST)),
        batch_size=teacher_cfg.TEST.IMS_PER_BATCH,
        num_workers=teacher_cfg.DATALOADER.NUM_WORKERS,
    )
    told: list[torch.Tensor | None] = []
    for batch in tqdm(loader, desc=dataset, unit="batch"):
        known = teacher([sample["image"] for sample in batch], [sample["proposals"] for sample in batch])
        for sample, regions in zip(batch, known, strict=True):
            told.append(regions.as_knowledge(sample["proposals"].proposal_boxes.tensor, temperature).image_scores)
    return _calibrate(cfg, {dataset: records}, told, temperature)


def calibrate_cache(config_file: str, options: list[str]) -> Calibration:
    """Calibrate what the teachers of a cross-fitted cache say, each of the photos that it was not trained on.

    Args:
        config_file, options: of the distillation; ``KD.CACHE`` holds the knowledge of ``DATASETS.TRAIN``.

    Raises:
        InputError: the cache does not fit, or a teacher was trained on one of the photos that it speaks of.
    """
    cfg, _ = prepare_caching(config_file, options)
    labeled = cfg.clone()
    labeled.defrost()
    # Without labels there is nothing to calibrate by.
    labeled.DATASETS.UNLABELED = labeled.DATASETS.PROPOSALS.UNLABELED_FILES = ()
    splits = {name: dataset_records(name, boxes=False) for name in labeled.DATASETS.TRAIN}
    teachers = load_teacher_configs(labeled)
    for name, records in splits.items():
        _check_held_out(teachers[name], teachers[name].MODEL.WEIGHTS, name, records)
    source = CachedKnowledge(labeled, KnowledgeRequest(), teachers)
    view = View(labeled.INPUT.SIZE_TEST)
    samples = [
        {"dataset": name, "image_id": record["image_id"], "view": view}
        for name, records in splits.items()
        for record in records
    ]
    told = [source([sample])[0].image_scores for sample in tqdm(samples, desc="cache", unit="image")]
    return _calibrate(labeled, splits, told, labeled.KD.PREDICTION.TEACHER_TEMPERATURE)


def _check_held_out(teacher_cfg: CfgNode, weights: str, dataset: str, records: Sequence[dict]) -> None:
    """A teacher knows the labels of the photos that it was trained on: on them it is always right."""
    trained_on: set[str] = set()
    for name in teacher_cfg.DATASETS.TRAIN:
        try:
            trained_on.update(record["file_name"] for record in dataset_records(name, boxes=False))
        except UnknownDatasetError:
            logger.warning("%s was trained on %s, which is not here: were these photos held out?", weights, name)
    seen = [record for record in records if record["file_name"] in trained_on]
    if seen:
        raise InputError(
            f"dataset {dataset}: {weights} was trained on {len(seen)} of its {len(records)} images, such as "
            f"{seen[0]['image_id']}; take photos that it has not seen, such as NAME@1of4 for a teacher of NAME@not1of4"
        )


def _calibrate(
    cfg: CfgNode, splits: dict[str, list[dict]], told: Sequence[torch.Tensor | None], temperature: float
) -> Calibration:
    names = class_names(cfg.DATASETS.TRAIN[0])
    targets = label_targets([record for records in splits.values() for record in records], len(names))
    # Of an image without regions the teacher says nothing, neither here nor in training.
    targets = targets[[scores is not None for scores in told]]
    scores = torch.stack([scores.cpu() for scores in told if scores is not None])
    slopes, intercepts = fit_platt_scaling(scores.numpy(), targets)
    lines = tuple(slopes.tolist()), tuple(intercepts.tolist())
    calibration = Calibration(
        tuple(names), *lines, float(temperature), tuple(_held_out(cfg, splits)), flip=cfg.KD.TEACHER.FLIP
    )
    worse = [name for name, slope in zip(names, slopes, strict=True) if slope <= 0]
    if worse:
        logger.warning("The teacher's scores say nothing, or the opposite, of %s", ", ".join(worse))
    logger.info(
        "%d photos that the teacher was not trained on: cross-entropy of its scores %.3f, calibrated %.3f",
        len(scores),
        image_level_binary_cross_entropy(scores, torch.from_numpy(targets)),
        image_level_binary_cross_entropy(calibration.apply(scores), torch.from_numpy(targets)),
    )
    return calibration


def _held_out(cfg: CfgNode, splits: dict[str, list[dict]]) -> Iterator[HeldOut]:
    for name, records in splits.items():
        weights = PathManager.get_local_path(cfg.KD.TEACHER.WEIGHTS.replace(DATASET, name))
        yield HeldOut(name, image_list_digest(records), file_digest(weights))
