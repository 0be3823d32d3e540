"""Values of the configuration that can be checked without looking at any data."""

from __future__ import annotations

import math

import torch
from detectron2.config import CfgNode
from detectron2.modeling import (
    BACKBONE_REGISTRY,
    ROI_BOX_HEAD_REGISTRY,
    ROI_HEADS_REGISTRY,
)

from mlickd.config import default_config
from mlickd.data.build import corruption_of, model_class
from mlickd.distillation import FEATURE_DISTILLER_REGISTRY, KD_STAGES, PREDICTION_DISTILLER_REGISTRY
from mlickd.distillation.knowledge import REGION_WEIGHTS
from mlickd.distillation.registry import feature_distiller_class
from mlickd.distillation.teacher_files import has_teacher_per_dataset
from mlickd.errors import InputError
from mlickd.evaluation.metrics import check_protocol

__all__ = ["check_config"]


def check_config(cfg: CfgNode, processes: int = 1) -> None:
    """Check names, ranges and choices.

    Args:
        cfg: the configuration.
        processes: that share a batch.

    Raises:
        InputError: the first value that cannot be used, with its key and what would do.
    """
    kind = model_class(cfg)
    if cfg.DATASETS.UNLABELED and not kind.student_architecture:
        raise InputError(
            f"DATASETS.UNLABELED {', '.join(cfg.DATASETS.UNLABELED)}: a {cfg.MODEL.META_ARCHITECTURE} learns "
            "from labels only; leave it empty, or take a DistilledClassifier"
        )
    _one_of("MODEL.BACKBONE.NAME", cfg.MODEL.BACKBONE.NAME, _names(BACKBONE_REGISTRY))
    if kind.is_detector:
        _one_of("MODEL.ROI_HEADS.NAME", cfg.MODEL.ROI_HEADS.NAME, _names(ROI_HEADS_REGISTRY))
        _one_of("MODEL.ROI_BOX_HEAD.NAME", cfg.MODEL.ROI_BOX_HEAD.NAME, _names(ROI_BOX_HEAD_REGISTRY))
        poolers = ("ROIPool", "ROIAlign", "ROIAlignV2")
        _one_of("MODEL.ROI_BOX_HEAD.POOLER_TYPE", cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE, poolers)
        _one_of("MODEL.WSDDN.SCORE_WEIGHTING", cfg.MODEL.WSDDN.SCORE_WEIGHTING, ("score", "affine", "none"))
        _require(
            cfg.MODEL.OICR.NUM_REFINEMENTS > 0, "MODEL.OICR.NUM_REFINEMENTS", cfg.MODEL.OICR.NUM_REFINEMENTS, "positive"
        )
        _require(0 < cfg.MODEL.OICR.IOU_THRESH <= 1, "MODEL.OICR.IOU_THRESH", cfg.MODEL.OICR.IOU_THRESH, "in (0, 1]")
    else:
        _one_of("MODEL.CLASSIFIER.POOLING", cfg.MODEL.CLASSIFIER.POOLING, ("average", "max", "fc"))
    if kind.student_architecture:
        if has_teacher_per_dataset(cfg) and not cfg.KD.CACHE:
            raise InputError(
                f"KD.TEACHER.WEIGHTS {cfg.KD.TEACHER.WEIGHTS}: only one teacher can be run live; make a cache of what "
                "several say with tools/cache_knowledge.py, and give KD.CACHE"
            )
        _one_of("KD.REGIONS.WEIGHT", cfg.KD.REGIONS.WEIGHT, REGION_WEIGHTS)
        _one_of("KD.FEATURE.DISTILLER", cfg.KD.FEATURE.DISTILLER, _names(FEATURE_DISTILLER_REGISTRY))
        _one_of("KD.FEATURE.COMPARE", cfg.KD.FEATURE.COMPARE, ("pooled", "box_head"))
        _one_of("KD.PREDICTION.DISTILLER", cfg.KD.PREDICTION.DISTILLER, _names(PREDICTION_DISTILLER_REGISTRY))
        _one_of("KD.PREDICTION.LOSS", cfg.KD.PREDICTION.LOSS, ("l2", "bce"))
        _require(0 < cfg.KD.REGIONS.NMS_THRESH <= 1, "KD.REGIONS.NMS_THRESH", cfg.KD.REGIONS.NMS_THRESH, "in (0, 1]")
        _require(cfg.KD.REGIONS.TOP_K >= 0, "KD.REGIONS.TOP_K", cfg.KD.REGIONS.TOP_K, "0 (all regions) or more")
        stages = tuple(cfg.KD.METHOD_STAGES)
        in_order = stages in (KD_STAGES, *((stage,) for stage in KD_STAGES))
        _require(in_order, "KD.METHOD_STAGES", stages, f"{KD_STAGES}, or one of them alone")
        of_batch = cfg.KD.PREDICTION.FEATURE_LOSS and feature_distiller_class(cfg).needs_labels
        _require(
            cfg.SOLVER.ACCUMULATE == 1 or not of_batch, "SOLVER.ACCUMULATE", cfg.SOLVER.ACCUMULATE,
            f"1 with {cfg.KD.FEATURE.DISTILLER}, which compares the images of a batch",
        )  # fmt: skip
        for key in ("TEACHER_TEMPERATURE", "STUDENT_TEMPERATURE", "TEMPERATURE"):
            _require(cfg.KD.PREDICTION[key] > 0, f"KD.PREDICTION.{key}", cfg.KD.PREDICTION[key], "positive")
    _one_of("INPUT.FORMAT", cfg.INPUT.FORMAT, ("RGB", "BGR"))
    _one_of("INPUT.RANDOM_FLIP", cfg.INPUT.RANDOM_FLIP, ("horizontal", "none"))
    sizes = tuple(cfg.INPUT.SIZES_TRAIN)
    integers = len(sizes) > 0 and all(isinstance(size, int) and size > 0 for size in sizes)
    _require(integers, "INPUT.SIZES_TRAIN", sizes, "positive integers, one or more")
    _require(cfg.INPUT.SIZE_TEST > 0, "INPUT.SIZE_TEST", cfg.INPUT.SIZE_TEST, "positive")
    _check_augmentation(cfg)
    _check_data_and_device(cfg)
    _check_solver(cfg)
    _require(cfg.DATASETS.PROPOSALS.TOP_K > 0, "DATASETS.PROPOSALS.TOP_K", cfg.DATASETS.PROPOSALS.TOP_K, "positive")
    _one_of("SOLVER.OPTIMIZER", cfg.SOLVER.OPTIMIZER, ("SGD", "ADAMW"))
    schedules = ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR")
    _one_of("SOLVER.LR_SCHEDULER_NAME", cfg.SOLVER.LR_SCHEDULER_NAME, schedules)
    kept = cfg.SOLVER.KEEP_CHECKPOINTS
    _require(kept >= 0, "SOLVER.KEEP_CHECKPOINTS", kept, "0 (all of them) or more")
    clipping = cfg.SOLVER.CLIP_GRADIENTS
    _one_of("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", clipping.CLIP_TYPE, ("value", "norm"))
    _require(clipping.CLIP_VALUE > 0, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", clipping.CLIP_VALUE, "positive")
    _require(clipping.NORM_TYPE > 0, "SOLVER.CLIP_GRADIENTS.NORM_TYPE", clipping.NORM_TYPE, "positive")
    _require(cfg.SOLVER.MAX_ITER > 0, "SOLVER.MAX_ITER", cfg.SOLVER.MAX_ITER, "positive")
    batch = cfg.SOLVER.IMS_PER_BATCH
    expected = f"a positive multiple of the {processes} processes" if processes > 1 else "positive"
    _require(batch > 0 and batch % processes == 0, "SOLVER.IMS_PER_BATCH", batch, expected, example=8 * processes)
    parts, most = cfg.SOLVER.ACCUMULATE, batch // processes
    _require(1 <= parts <= most, "SOLVER.ACCUMULATE", parts, f"from 1 to {most}, the images of a batch in each process")
    sides = tuple(cfg.TEST.AUG.MIN_SIZES)
    integers = all(isinstance(side, int) and side > 0 for side in sides)
    _require(integers, "TEST.AUG.MIN_SIZES", sides, "positive integers, the sides of square views")
    _require(cfg.SEED + processes <= 2**32, "SEED", cfg.SEED, f"at most {2**32 - processes}", 1)
    batches = cfg.TEST.PRECISE_BN.NUM_ITER
    _require(batches > 0 or not cfg.TEST.PRECISE_BN.ENABLED, "TEST.PRECISE_BN.NUM_ITER", batches, "positive")
    _require(cfg.TEST.CORLOC_IMAGES >= 0, "TEST.CORLOC_IMAGES", cfg.TEST.CORLOC_IMAGES, "0 (none) or more")
    for key, protocol in (
        ("THRESHOLD", (cfg.TEST.THRESHOLD, 1, "ranking")),
        ("TOP_K", (0.5, cfg.TEST.TOP_K, "ranking")),
        ("AVERAGE_PRECISION", (0.5, 1, cfg.TEST.AVERAGE_PRECISION)),
    ):
        try:
            check_protocol(*protocol)
        except ValueError as error:
            raise InputError(f"TEST.{key}: {error}; give another, such as {_default(f'TEST.{key}')}") from error
    corruption_of(cfg)


def _check_data_and_device(cfg: CfgNode) -> None:
    for key in ("TRAIN", "TEST", "UNLABELED"):
        names = tuple(cfg.DATASETS[key])
        _require(all(isinstance(name, str) for name in names), f"DATASETS.{key}", names, "names of datasets")
    _require(cfg.DATALOADER.NUM_WORKERS >= 0, "DATALOADER.NUM_WORKERS", cfg.DATALOADER.NUM_WORKERS, "0 or more")
    for key, least in (("PIXEL_MEAN", -math.inf), ("PIXEL_STD", 0)):
        values = cfg.MODEL[key]
        fits = len(values) == 3 and all(_is_number(value) and value > least for value in values)
        _require(fits, f"MODEL.{key}", values, f"3 {'positive ' if key == 'PIXEL_STD' else ''}numbers")
    try:
        torch.device(cfg.MODEL.DEVICE)
    except RuntimeError:
        raise InputError(
            f"MODEL.DEVICE {cfg.MODEL.DEVICE!r} is no device of PyTorch; give cpu, cuda or cuda:1"
        ) from None


def _check_solver(cfg: CfgNode) -> None:
    solver = cfg.SOLVER
    for key in ("BASE_LR", "GAMMA"):
        _require(_is_number(solver[key]) and solver[key] > 0, f"SOLVER.{key}", solver[key], "positive and finite")
    for key in ("WEIGHT_DECAY", "WARMUP_FACTOR"):
        _require(_is_number(solver[key]) and solver[key] >= 0, f"SOLVER.{key}", solver[key], "0 or more, and finite")
    _require(0 <= solver.MOMENTUM < 1, "SOLVER.MOMENTUM", solver.MOMENTUM, "from 0 to below 1")
    _require(solver.WARMUP_ITERS >= 0, "SOLVER.WARMUP_ITERS", solver.WARMUP_ITERS, "0 or more")
    _require(solver.CHECKPOINT_PERIOD > 0, "SOLVER.CHECKPOINT_PERIOD", solver.CHECKPOINT_PERIOD, "positive")
    _require(cfg.TEST.EVAL_PERIOD >= 0, "TEST.EVAL_PERIOD", cfg.TEST.EVAL_PERIOD, "0 (at the end alone) or more")
    integers = all(isinstance(step, int) and step >= 0 for step in solver.STEPS)
    _require(integers, "SOLVER.STEPS", tuple(solver.STEPS), "iterations, 0 or more each")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _check_augmentation(cfg: CfgNode) -> None:
    for key, largest, expected in (
        ("AREA", 1, "the smallest and the largest part, both above 0 and at most 1"),
        ("ASPECT", float("inf"), "the smallest and the largest, both above 0"),
    ):
        limits = cfg.INPUT.RANDOM_CROP[key]
        fits = len(limits) == 2 and 0 < limits[0] <= limits[1] <= largest and limits[1] < float("inf")
        _require(fits, f"INPUT.RANDOM_CROP.{key}", limits, expected)
    for key, strength in cfg.INPUT.COLOR_JITTER.items():
        _require(0 <= strength <= 1, f"INPUT.COLOR_JITTER.{key}", strength, "from 0 (colors stay) to 1")


def _names(registry) -> tuple[str, ...]:
    return tuple(sorted(name for name, _ in registry))


def _one_of(key: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{key} {value!r} is none of {', '.join(choices)}; give one of them")


def _require(holds: bool, key: str, value: object, expected: str, example: object = None) -> None:
    if not holds:
        example = _default(key) if example is None else example
        such_as = "" if example in ((), [], "", value) else f", such as {example}"
        raise InputError(f"{key} {value} must be {expected}; give another{such_as}")


def _default(key: str) -> object:
    """The value that a key has where nobody gives one."""
    value = default_config()
    for part in key.split("."):
        value = value[part]
    return value
