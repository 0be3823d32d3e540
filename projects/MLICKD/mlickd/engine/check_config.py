"""Check the configuration values that the classes of a model do not check themselves."""

import math
import re
from collections.abc import Callable, Sequence
from operator import attrgetter

from detectron2.config import CfgNode
from detectron2.modeling import BACKBONE_REGISTRY, ROI_BOX_HEAD_REGISTRY, ROI_HEADS_REGISTRY
from detectron2.utils.registry import Registry

from mlickd.config_files import config_items
from mlickd.data.build import model_class
from mlickd.distillation import FEATURE_DISTILLER_REGISTRY, KD_STAGES, PREDICTION_DISTILLER_REGISTRY
from mlickd.distillation.distillers.base import feature_distiller_class
from mlickd.distillation.knowledge import REGION_WEIGHTS
from mlickd.errors import InputError
from mlickd.evaluation.metrics import check_protocol

_CHOICES: dict[str, Sequence[str] | Registry] = {
    "MODEL.BACKBONE.NAME": BACKBONE_REGISTRY,
    "MODEL.LABEL_LOSS.NAME": ("bce", "asl"),
    "INPUT.FORMAT": ("RGB", "BGR"),
    "INPUT.RANDOM_FLIP": ("horizontal", "none"),
    "SOLVER.OPTIMIZER": ("SGD", "ADAMW"),
    "SOLVER.AMP.DTYPE": ("float16", "bfloat16"),
    "SOLVER.LR_SCHEDULER_NAME": ("WarmupMultiStepLR", "WarmupCosineLR"),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": ("value", "norm"),
    "SOLVER.WARMUP_METHOD": ("linear", "constant"),
    "KD.REGIONS.WEIGHT": REGION_WEIGHTS,
    "KD.FEATURE.COMPARE": ("pooled", "box_head"),
    "KD.PREDICTION.LOSS": ("l2", "bce"),
    "KD.FEATURE.DISTILLER": FEATURE_DISTILLER_REGISTRY,
    "KD.PREDICTION.DISTILLER": PREDICTION_DISTILLER_REGISTRY,
}
_DETECTOR_CHOICES: dict[str, Sequence[str] | Registry] = {
    "MODEL.ROI_HEADS.NAME": ROI_HEADS_REGISTRY,
    "MODEL.ROI_BOX_HEAD.NAME": ROI_BOX_HEAD_REGISTRY,
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": ("ROIPool", "ROIAlign", "ROIAlignV2"),
}


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _are_integers(values: Sequence[object], minimum: int) -> bool:
    return all(isinstance(value, int) and value >= minimum for value in values)


# A test of a value, and a text that names the allowed values.
_Rule = tuple[Callable[..., bool], str]
_POSITIVE: _Rule = (lambda value: _is_finite(value) and value > 0, "positive and finite")
_NOT_NEGATIVE: _Rule = (lambda value: _is_finite(value) and value >= 0, "0 or more, and finite")
_FRACTION: _Rule = (lambda value: _is_finite(value) and 0 <= value <= 1, "from 0 to 1")
_BELOW_1: _Rule = (lambda value: 0 <= value < 1, "at least 0 and below 1")
_POSITIVE_FRACTION: _Rule = (lambda value: 0 < value <= 1, "above 0 and at most 1")
# The gradient of a smaller power is infinite at 0.
_EXPONENT: _Rule = (lambda value: value == 0 or _is_finite(value) and value >= 1, "0, or 1 or more, and finite")
_RULES: dict[str, _Rule] = {
    "DATASETS.PROPOSALS.TOP_K": _POSITIVE,
    "DATASETS.UNLABELED_SHARE": _BELOW_1,
    "INPUT.CROP.ENABLED": (lambda value: not value, "False; set INPUT.RANDOM_CROP.ENABLED True instead"),
    "INPUT.RANDOM_CROP.AREA": (
        lambda limits: len(limits) == 2 and all(map(_is_finite, limits)) and 0 < limits[0] <= limits[1] <= 1,
        "(smallest fraction, largest fraction), both above 0 and at most 1",
    ),
    "INPUT.SIZES_TRAIN": (lambda sizes: sizes and _are_integers(sizes, 1), "one or more positive integers"),
    "INPUT.SIZE_TEST": _POSITIVE,
    "KD.FEATURE.WARMUP_ITERS": (lambda value: value >= -1, "-1 or more"),
    "KD.METHOD_STAGES": (lambda stages: tuple(stages) in (KD_STAGES, KD_STAGES[1:]), f"{KD_STAGES} or {KD_STAGES[1:]}"),
    "KD.PREDICTION.STUDENT_TEMPERATURE": _POSITIVE,
    "KD.PREDICTION.TEACHER_TEMPERATURE": _POSITIVE,
    "KD.PREDICTION.TEMPERATURE": _POSITIVE,
    "KD.REGIONS.NMS_THRESH": _POSITIVE_FRACTION,
    "MODEL.CLASSIFIER.DROPOUT": _FRACTION,
    "MODEL.DEVICE": (lambda device: re.fullmatch(r"cpu|cuda(:\d+)?", device), "cpu, cuda or cuda:N"),
    "MODEL.LABEL_LOSS.CLIP": _FRACTION,
    "MODEL.LABEL_LOSS.GAMMA_NEG": _EXPONENT,
    "MODEL.LABEL_LOSS.GAMMA_POS": _EXPONENT,
    "MODEL.PIXEL_MEAN": (lambda values: len(values) == 3 and all(map(_is_finite, values)), "3 numbers"),
    "MODEL.PIXEL_STD": (
        lambda values: len(values) == 3 and all(_is_finite(value) and value > 0 for value in values),
        "3 positive numbers",
    ),
    "MODEL.ROI_BOX_HEAD.DROPOUT": _FRACTION,
    "MODEL.WSDDN.CONTEXT": _FRACTION,
    "OUTPUT_DIR": (bool, "the path of a folder"),
    "SOLVER.BASE_LR": _POSITIVE,
    "SOLVER.CHECKPOINT_PERIOD": _POSITIVE,
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": _POSITIVE,
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": (lambda value: value > 0, "positive"),
    "SOLVER.GAMMA": _POSITIVE,
    "SOLVER.MAX_ITER": _POSITIVE,
    "SOLVER.MOMENTUM": _BELOW_1,
    "SOLVER.REFERENCE_WORLD_SIZE": (lambda value: value == 0, "0; set SOLVER.IMS_PER_BATCH for all processes together"),
    "SOLVER.STEPS": (lambda steps: _are_integers(steps, 0), "iterations that are 0 or more"),
    "SOLVER.WEIGHT_DECAY_BIAS": (lambda value: value is None or _NOT_NEGATIVE[0](value), _NOT_NEGATIVE[1]),
    "TEST.AUG.MIN_SIZES": (lambda sizes: _are_integers(sizes, 1), "positive integers"),
    "TEST.IMS_PER_BATCH": _POSITIVE,
    "TEST.PRECISE_BN.ENABLED": (lambda value: not value, "False, because it is not supported"),
}
_NAMES: _Rule = (lambda names: all(isinstance(name, str) for name in names), "names of datasets or folders")
_RULES |= {f"DATASETS.{key}": _NAMES for key in ("TRAIN", "UNLABELED", "TEST")}
_RULES |= {f"DATASETS.PROPOSALS.{key}_FILES": _NAMES for key in ("TRAIN", "UNLABELED", "TEST")}
# The numbers of these sections without another rule must not be negative.
_NOT_NEGATIVE_SECTIONS = ("DATALOADER.", "KD.", "MODEL.BACKBONE.", "MODEL.WSDDN.", "SOLVER.", "TEST.")


def check_config(cfg: CfgNode, processes: int = 1) -> None:
    """Check the values of a configuration before any data is read.

    Args:
        cfg: configuration.
        processes: number of processes among which each batch is divided.

    Raises:
        InputError: a value is not allowed; the message names the key and the allowed values.
    """
    kind = model_class(cfg)
    for key, allowed in (_CHOICES | (_DETECTOR_CHOICES if kind.is_detector else {})).items():
        if attrgetter(key)(cfg) not in allowed:
            names = sorted(name for name, _ in allowed) if isinstance(allowed, Registry) else allowed
            raise InputError(f"{key} {attrgetter(key)(cfg)!r} must be one of {', '.join(names)}")
    parts = max(1, cfg.SOLVER.IMS_PER_BATCH // processes)
    compares_images = (
        kind.student_architecture and cfg.KD.PREDICTION.FEATURE_LOSS and feature_distiller_class(cfg).needs_labels
    )
    numbers = [key for key, value in config_items(cfg) if type(value) in (int, float)]
    rules = {key: _NOT_NEGATIVE for key in numbers if key.startswith(_NOT_NEGATIVE_SECTIONS)} | _RULES
    rules |= {
        "SEED": (lambda value: value + processes <= 2**32, f"at most {2**32 - processes}"),
        "SOLVER.GRAD_ACCUM_STEPS": (lambda value: 1 <= value <= parts, f"from 1 to {parts}, the images per process"),
        "SOLVER.IMS_PER_BATCH": (
            lambda value: value > 0 and value % processes == 0,
            f"a positive multiple of the number of processes, {processes}",
        ),
    }
    if compares_images:
        expected = f"1, because {cfg.KD.FEATURE.DISTILLER} compares the images of a batch"
        rules["SOLVER.GRAD_ACCUM_STEPS"] = (lambda value: value == 1, expected)
    if cfg.SOLVER.NESTEROV:
        rules["SOLVER.MOMENTUM"] = (lambda value: 0 < value < 1, "above 0 and below 1 with SOLVER.NESTEROV")
    if cfg.DATASETS.UNLABELED and cfg.SOLVER.IMS_PER_BATCH == 1:
        rules["DATASETS.UNLABELED_SHARE"] = (lambda value: value == 0, "0 for SOLVER.IMS_PER_BATCH 1")
    stages = (cfg.KD.STAGE,) if cfg.KD.STAGE else cfg.KD.METHOD_STAGES
    if kind.student_architecture and "feature" in stages:
        rules["MODEL.BACKBONE.FROZEN"] = (lambda value: not value, "False in stage 1, which trains only the backbone")
    if not kind.student_architecture:
        expected = f"empty, because a {cfg.MODEL.META_ARCHITECTURE} learns from labels only"
        rules["DATASETS.UNLABELED"] = (lambda names: not names, expected)
    for key, (is_allowed, expected) in rules.items():
        if not is_allowed(attrgetter(key)(cfg)):
            raise InputError(f"{key} {attrgetter(key)(cfg)} must be {expected}")
    try:
        check_protocol(cfg.TEST.THRESHOLD, cfg.TEST.TOP_K, cfg.TEST.AVERAGE_PRECISION)
    except ValueError as error:
        raise InputError(f"TEST.THRESHOLD, TEST.TOP_K or TEST.AVERAGE_PRECISION: {error}") from error
