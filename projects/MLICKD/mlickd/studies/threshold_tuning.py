"""Calibrate teachers and choose class thresholds on held-out images."""

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.evaluation import inference_on_dataset

from mlickd.data import View, open_proposals
from mlickd.data.build import build_test_loader, model_class
from mlickd.data.catalog import UnknownDatasetError, check_run_classes, class_names, dataset_records
from mlickd.data.proposals.store import image_list_digest
from mlickd.data.records import label_targets
from mlickd.distillation import FrozenTeacher, KnowledgeRequest
from mlickd.distillation.cache import CachedKnowledge
from mlickd.distillation.calibration import Calibration, fit_platt_scaling
from mlickd.distillation.teacher_config import load_teacher_config, load_teacher_configs
from mlickd.engine.check_config import check_config
from mlickd.engine.run_config import load_cache_config, load_config
from mlickd.errors import InputError
from mlickd.evaluation import MultiLabelEvaluator
from mlickd.evaluation.score_files import SCORES_FILE, ImageScores, read_scores
from mlickd.files import file_digest
from mlickd.modeling.losses import image_level_binary_cross_entropy
from mlickd.progress import progress
from mlickd.runs import find_run, load_run, multilabel_results, provenance, run_class_names, run_config
from mlickd.thresholds import THRESHOLDS_FILE, ClassThresholds, best_f1_thresholds, write_thresholds

logger = logging.getLogger(__name__)


def tune_thresholds(run: str | os.PathLike[str], dataset: str) -> ClassThresholds:
    """Choose the threshold with the best F1 for each class, and write ``thresholds.json`` into the run's folder.

    The scores are saved in ``<run>/evaluation/inference/<dataset>``; see :func:`compute_scores`.

    Args:
        run: folder of a finished run.
        dataset: name of a dataset that does not share images with the first dataset of ``DATASETS.TEST`` of the run.

    Raises:
        InputError: the run is not finished, or the dataset has other classes or shares images with the test dataset.
    """
    run = find_run(run)
    cfg, records = run_config(run), dataset_records(dataset, boxes=False)
    _check_held_out(dataset, records, cfg, "DATASETS.TEST")
    if shared := _shared_images(records, cfg, "DATASETS.TRAIN"):
        seen = f"{len(shared)} of the {len(records)} images of {dataset}"
        logger.warning("%s was trained on %s, so the thresholds may not suit other images", run, seen)
    scores = compute_scores(run, run / "evaluation" / "inference" / dataset, dataset)
    thresholds, f1 = best_f1_thresholds(scores.scores, scores.targets, cfg.TEST.THRESHOLD)
    tuned = ClassThresholds(
        class_names=scores.class_names,
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


def compute_scores(folder: Path, output: Path, dataset: str) -> ImageScores:
    """Return the image scores of a run on a dataset.

    Scores are cached in ``output`` and recomputed only if data, checkpoint, configuration or versions change.

    Args:
        folder: folder of the run.
        output: folder of the scores.
        dataset: name of the dataset.

    Raises:
        InputError: the run is not finished, it has other classes than the dataset, or an image cannot be read.
    """
    cfg = run_config(folder).clone()
    if run_class_names(cfg, folder) != class_names(dataset):
        raise InputError(f"--dataset {dataset}: has other classes than {folder}; give a dataset with these classes")
    cfg.defrost()
    cfg.DATASETS.TEST, cfg.DATASETS.PROPOSALS.TEST_FILES = (dataset,), ()
    source = provenance(cfg, dataset) | {"checkpoint": {"sha256": file_digest(cfg.MODEL.WEIGHTS)}}
    report: dict = {}
    with suppress(InputError):  # the first evaluation, or a damaged report
        report = multilabel_results(output / "multilabel_results.json")
    if any(report.get(key) != value for key, value in source.items() if key != "date"):
        logger.info("%s: scores on %s", folder, dataset)
        evaluator = MultiLabelEvaluator(
            dataset,
            threshold=cfg.TEST.THRESHOLD,
            topk=cfg.TEST.TOP_K,
            ap=cfg.TEST.AVERAGE_PRECISION,
            provenance=source,
            output_dir=str(output),
        )
        inference_on_dataset(load_run(folder)[1], build_test_loader(cfg, dataset), evaluator)
    return read_scores(str(output / SCORES_FILE))


def calibrate_on_dataset(config_file: str, options: list[str], dataset: str) -> Calibration:
    """Run a teacher on images that it was not trained on, and calibrate its scores.

    Args:
        config_file: configuration of the distillation.
        options: keys and values that override it.
        dataset: name of a dataset with labels and proposals.

    Raises:
        InputError: the teacher or the data are missing or do not match, or the teacher has seen one of the images.
    """
    cfg = load_config(config_file, options)
    if not model_class(cfg).student_architecture:
        raise InputError(f"--config-file {config_file}: is not a distillation; give configs/folder/kd.yaml")
    cfg.MODEL.NUM_CLASSES = len(class_names(dataset))
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    cfg.DATASETS.TRAIN, cfg.DATASETS.UNLABELED = (dataset,), ()
    check_config(cfg)
    temperature = cfg.KD.PREDICTION.TEACHER_TEMPERATURE
    records = dataset_records(dataset, boxes=False)
    teacher_cfg = load_teacher_config(cfg)
    check_run_classes(teacher_cfg.MODEL.WEIGHTS, "KD.TEACHER.WEIGHTS", dataset)
    _check_held_out(dataset, records, teacher_cfg, "DATASETS.TRAIN")
    open_proposals(teacher_cfg, dataset).check(records)
    teacher = FrozenTeacher(cfg, teacher_cfg, KnowledgeRequest())
    scores: list[torch.Tensor | None] = []
    for batch in progress(build_test_loader(teacher_cfg, dataset), dataset, "batch"):
        known = teacher([sample["image"] for sample in batch], [sample["proposals"] for sample in batch])
        for sample, regions in zip(batch, known, strict=True):
            scores.append(regions.to_knowledge(sample["proposals"].proposal_boxes.tensor, temperature).image_scores)
    return _calibrate(cfg, {dataset: teacher_cfg}, scores)


def calibrate_cache(config_file: str, options: list[str]) -> Calibration:
    """Calibrate the scores in a cross-fitted cache, each from a teacher that was not trained on the image.

    Args:
        config_file: configuration of the distillation; ``KD.CACHE`` has the knowledge of ``DATASETS.TRAIN``.
        options: keys and values that override it.

    Raises:
        InputError: the cache does not match the configuration, or a teacher was trained on its images.
    """
    cfg = load_cache_config(config_file, options)[0].clone()
    cfg.defrost()
    cfg.DATASETS.UNLABELED = cfg.DATASETS.PROPOSALS.UNLABELED_FILES = ()  # a calibration needs labels
    teachers = load_teacher_configs(cfg)
    samples, view = [], View(cfg.INPUT.SIZE_TEST)
    for name, teacher_cfg in teachers.items():
        records = dataset_records(name, boxes=False)
        _check_held_out(name, records, teacher_cfg, "DATASETS.TRAIN")
        samples += [{"dataset": name, "image_id": record["image_id"], "view": view} for record in records]
    knowledge = CachedKnowledge(cfg, KnowledgeRequest(), teachers)
    scores = [knowledge([sample])[0].image_scores for sample in progress(samples, "cache", "image")]
    return _calibrate(cfg, teachers, scores)


def _calibrate(cfg: CfgNode, teachers: Mapping[str, CfgNode], scores: Sequence[torch.Tensor | None]) -> Calibration:
    """Fit the calibration to the (C,) scores of each image in the datasets; images without regions have None."""
    records = {name: dataset_records(name, boxes=False) for name in teachers}
    names = class_names(next(iter(records)))
    targets = label_targets([record for part in records.values() for record in part], len(names))
    targets = targets[[vector is not None for vector in scores]]
    known = torch.stack([vector.cpu() for vector in scores if vector is not None])
    slopes, intercepts = fit_platt_scaling(known.numpy(), targets)
    images = {name: image_list_digest(part) for name, part in records.items()}
    digests = {name: file_digest(teacher_cfg.MODEL.WEIGHTS) for name, teacher_cfg in teachers.items()}
    held_out = tuple({"dataset": name, "images": images[name], "teacher": digests[name]} for name in teachers)
    lines = tuple(slopes.tolist()), tuple(intercepts.tolist())
    temperature = float(cfg.KD.PREDICTION.TEACHER_TEMPERATURE)
    calibration = Calibration(tuple(names), *lines, temperature, held_out, cfg.KD.TEACHER.FLIP)
    if wrong := [name for name, slope in zip(names, slopes, strict=True) if slope <= 0]:
        logger.warning("For these classes, higher teacher scores do not mean higher probability: %s", ", ".join(wrong))
    labels = torch.from_numpy(targets)
    before, after = (image_level_binary_cross_entropy(p, labels) for p in (known, calibration.apply(known)))
    logger.info("%d held-out images: cross-entropy %.3f before calibration, %.3f after it", len(known), before, after)
    return calibration


def _check_held_out(dataset: str, records: Sequence[dict], cfg: CfgNode, key: str) -> None:
    """Check that no image is in the datasets of ``key``, because the results on a shared image would be too good."""
    if shared := _shared_images(records, cfg, key):
        raise InputError(
            f"dataset {dataset}: {len(shared)} of its {len(records)} images are in {key} of {cfg.MODEL.WEIGHTS} "
            f"(one is {shared[0]['image_id']}); name other images, such as NAME@1of4 if {key} has NAME@not1of4"
        )


def _shared_images(records: Sequence[dict], cfg: CfgNode, key: str) -> list[dict]:
    """Return the records whose image is also in one of the datasets that ``cfg`` lists under ``key``."""
    files: set[str] = set()
    # `compare` puts the held-out dataset second in DATASETS.TEST.
    for name in cfg.DATASETS.TEST[:1] if key == "DATASETS.TEST" else attrgetter(key)(cfg):
        try:
            files.update(record["file_name"] for record in dataset_records(name, boxes=False))
        except UnknownDatasetError:
            logger.warning(
                "%s, in %s of %s, is not on this machine; its images are not compared", name, key, cfg.MODEL.WEIGHTS
            )
    return [record for record in records if record["file_name"] in files]
