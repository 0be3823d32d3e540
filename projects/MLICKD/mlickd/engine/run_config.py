"""Configurations of runs: loaded, checked, and filled in from datasets, models and existing files."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm

from mlickd.config import default_config
from mlickd.config_files import merge_config_file, merge_options
from mlickd.data.build import model_class
from mlickd.data.catalog import class_names
from mlickd.distillation import KD_STAGES, KnowledgeRequest
from mlickd.distillation.hook import KnowledgeSource
from mlickd.errors import InputError
from mlickd.evaluation.thresholds import read_thresholds
from mlickd.files import require_file
from mlickd.modeling.backbone.timm_backbone import timm_pixel_statistics
from mlickd.runs import STUDENT_CHECKPOINT, check_has_learned, data_record, use_student

from .check_config import check_config, config_value
from .checkpointing import saved_checkpoints
from .input_checks import check_inputs
from .processes import check_devices, num_processes
from .training_loop import mixed_precision

__all__ = [
    "CACHE_KEYS",
    "finalize_config",
    "load_cache_config",
    "load_checked_config",
    "load_config",
    "resolve_run_config",
]

logger = logging.getLogger(__name__)

# Methods that share a cache must have the same values of these keys. It holds what any of them asks the teacher for.
CACHE_KEYS = ("KD.TEACHER", "KD.REGIONS", "KD.FEATURE.COMPARE", "KD.CACHE", "DATASETS", "INPUT.RANDOM_FLIP")


def load_config(config_file: str, options: list[str], kd_stage: str | None = None) -> CfgNode:
    """Return the configuration of a file with the given options and stage, not yet completed.

    Raises:
        InputError: the file is missing or malformed, or a key, a value or the stage is wrong.
    """
    require_file(config_file, "--config-file", "give one, such as configs/scenes/cls.yaml")
    cfg = default_config()
    merge_config_file(cfg, config_file, f"--config-file {config_file}")
    merge_options(cfg, options)
    if kd_stage is not None:
        cfg.KD.STAGE = kd_stage
    return cfg


def finalize_config(
    cfg: CfgNode, *, eval_only: bool = False, resume: bool = False, processes: int | None = None
) -> None:
    """Fill in the values that follow from datasets, model and existing files (in place).

    - ``MODEL.NUM_CLASSES`` is that of the training dataset, and ``MODEL.DEVICE`` is cpu if there is no CUDA.
    - A timm model brings its pixel statistics.
    - A stage of distillation has its own learning rate and number of iterations. ``OUTPUT_DIR`` becomes
      ``<OUTPUT_DIR>/<stage>``. Stage ``prediction`` starts from the student of stage ``feature`` under the same root,
      if ``MODEL.WEIGHTS`` is empty and the method has that stage (``KD.METHOD_STAGES``).
    - An evaluation uses the checkpoint in ``OUTPUT_DIR`` if ``MODEL.WEIGHTS`` is empty, and of a distilled model only
      the student. Its results go to ``<OUTPUT_DIR>/evaluation``, so that those of training stay.

    Args:
        cfg: configuration, see :func:`load_config`.
        eval_only: the run only evaluates.
        resume: the run continues from a checkpoint if there is one.
        processes: number of processes that will train together; None: the number of processes now.

    Raises:
        InputError: a value, dataset, class count, stage, checkpoint or file of thresholds is wrong.
    """
    check_config(cfg, comm.get_world_size() if processes is None else processes)
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logger.warning("MODEL.DEVICE %s: CUDA is not available, using the CPU", cfg.MODEL.DEVICE)
        cfg.MODEL.DEVICE = "cpu"
    precision = mixed_precision(cfg)
    processor = torch.backends.cpu.get_cpu_capability()
    if precision and cfg.MODEL.DEVICE == "cpu" and processor in ("DEFAULT", "AVX2"):
        logger.warning("SOLVER.AMP: this CPU (%s) has no bfloat16, and is many times slower with it", processor)
    _complete_classes(cfg, eval_only)
    if cfg.MODEL.BACKBONE.NAME == "build_timm_backbone" and cfg.MODEL.TIMM.USE_MODEL_PIXEL_STATISTICS:
        cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = timm_pixel_statistics(cfg.MODEL.TIMM.NAME)
        cfg.INPUT.FORMAT = "RGB"
    _complete_stage(cfg, eval_only, resume)
    if eval_only:
        checkpoint = use_student(cfg)
        cfg.MODEL.WEIGHTS = cfg.MODEL.WEIGHTS or os.path.join(cfg.OUTPUT_DIR, checkpoint)
        cfg.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, "evaluation")
    elif cfg.TEST.THRESHOLDS or cfg.TEST.CORRUPTION:
        key = "THRESHOLDS" if cfg.TEST.THRESHOLDS else "CORRUPTION"
        raise InputError(f"TEST.{key} {cfg.TEST[key]}: is not for training; leave it empty, or give --eval-only")
    if cfg.MODEL.WEIGHTS:
        # A resumed run does not need them.
        if eval_only or not (resume and saved_checkpoints(Path(cfg.OUTPUT_DIR))):
            require_file(cfg.MODEL.WEIGHTS, "MODEL.WEIGHTS", "train it first or give another path")
        cfg.MODEL.TIMM.PRETRAINED = False  # the checkpoint replaces the weights that would be downloaded
    if cfg.TEST.THRESHOLDS:
        _check_thresholds(cfg)


def _check_thresholds(cfg: CfgNode) -> None:
    thresholds = read_thresholds(cfg.TEST.THRESHOLDS)
    thresholds.check(f"TEST.THRESHOLDS {cfg.TEST.THRESHOLDS}", class_names(cfg.DATASETS.TEST[0]), cfg.MODEL.WEIGHTS)
    for name in cfg.DATASETS.TEST:
        if data_record(name)["sha256"] == thresholds.data_sha256:
            logger.warning("TEST.THRESHOLDS were tuned on the images of %s: the metrics there are too good", name)


def _complete_classes(cfg: CfgNode, eval_only: bool) -> None:
    keys = ("TEST",) if eval_only else ("TRAIN", "TEST")
    for key in keys:
        if not cfg.DATASETS[key]:
            example = f"DATASETS.{key} \"('scenes_{key.lower()}',)\""
            raise InputError(f"DATASETS.{key} is empty; name a dataset, for instance {example}")
    reference, *others = [name for key in keys for name in cfg.DATASETS[key]]
    names = class_names(reference)
    for other in others:
        if class_names(other) != names:
            raise InputError(f"datasets {reference} and {other} have different classes; use splits of one dataset")
    if cfg.MODEL.NUM_CLASSES not in (-1, len(names)):
        raise InputError(
            f"MODEL.NUM_CLASSES {cfg.MODEL.NUM_CLASSES}: dataset {reference} has {len(names)} classes; leave it at -1"
        )
    cfg.MODEL.NUM_CLASSES = len(names)


def _complete_stage(cfg: CfgNode, eval_only: bool, resume: bool) -> None:
    stages = tuple(cfg.KD.METHOD_STAGES) if model_class(cfg).student_architecture else ("",)
    if cfg.KD.STAGE not in stages:
        expected = " or ".join(stages) or "left out: the model has no stages"
        raise InputError(f"--kd-stage {cfg.KD.STAGE or '(missing)'} must be {expected}; see KD.METHOD_STAGES")
    if not cfg.KD.STAGE:
        return
    of_stage = cfg.KD[cfg.KD.STAGE.upper()]
    cfg.SOLVER.BASE_LR = of_stage.BASE_LR or cfg.SOLVER.BASE_LR
    max_iter = of_stage.MAX_ITER or cfg.SOLVER.MAX_ITER
    cfg.SOLVER.STEPS = tuple(step * max_iter // cfg.SOLVER.MAX_ITER for step in cfg.SOLVER.STEPS)
    cfg.SOLVER.MAX_ITER = max_iter
    if of_stage.WARMUP_ITERS >= 0:
        cfg.SOLVER.WARMUP_ITERS = of_stage.WARMUP_ITERS
    first_stage = os.path.join(cfg.OUTPUT_DIR, KD_STAGES[0], STUDENT_CHECKPOINT)
    cfg.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, cfg.KD.STAGE)
    resumed = resume and bool(saved_checkpoints(Path(cfg.OUTPUT_DIR)))
    if cfg.KD.STAGE != stages[0] and not cfg.MODEL.WEIGHTS and not eval_only and not resumed:
        if not os.path.isfile(first_stage):
            raise InputError(
                f"MODEL.WEIGHTS is empty, and there is no {first_stage}; run `--kd-stage {KD_STAGES[0]}` first, give a "
                "checkpoint of the student, or leave out stage 1 with KD.METHOD_STAGES \"('prediction',)\""
            )
        cfg.MODEL.WEIGHTS = first_stage


def load_checked_config(args: argparse.Namespace) -> tuple[CfgNode, tuple[dict[str, CfgNode], KnowledgeSource | None]]:
    """Complete, check and freeze the configuration of ``tools/train_net.py``, in one process.

    Args:
        args: arguments of Detectron2's ``default_argument_parser``, with ``kd_stage`` and ``timeout``.

    Returns:
        The configuration, and the further arguments of the trainer from :func:`check_inputs`.

    Raises:
        InputError: the configuration or the data is wrong.
    """
    cfg = load_config(args.config_file, args.opts, args.kd_stage)
    resolve_run_config(cfg, args.config_file, given=args.opts[::2], eval_only=args.eval_only)
    finalize_config(cfg, eval_only=args.eval_only, resume=args.resume, processes=num_processes(args))
    check_devices(cfg.MODEL.DEVICE, args)
    loaded = check_inputs(cfg, eval_only=args.eval_only, resume=args.resume)
    cfg.freeze()
    return cfg, loaded


def resolve_run_config(cfg: CfgNode, config_file: str, *, given: Sequence[str], eval_only: bool) -> None:
    """Use the folder of a run, and its checkpoint to evaluate, if ``config_file`` is the ``config.yaml`` of the run.

    The file itself has the weights that training started from, and a folder with the name of the stage.

    Args:
        cfg: configuration of the file with its options; changed in place.
        config_file: path of the file.
        given: keys of the options, which are not changed.
        eval_only: the run only evaluates.

    Raises:
        InputError: stage 1 of a distillation is to be evaluated.
    """
    folder, name = os.path.split(config_file)
    checkpoints = ("model_final.pth", STUDENT_CHECKPOINT, "last_checkpoint")
    if name != "config.yaml" or not any(os.path.isfile(os.path.join(folder, file)) for file in checkpoints):
        return
    stage = cfg.KD.STAGE
    if eval_only:
        check_has_learned(cfg, f"--config-file {config_file}")
        checkpoint = use_student(cfg)
        cfg.KD.STAGE, cfg.DATASETS.UNLABELED, cfg.DATASETS.PROPOSALS.UNLABELED_FILES = "", (), ()
        if "MODEL.WEIGHTS" not in given:
            cfg.MODEL.WEIGHTS = os.path.join(folder, checkpoint)
    if "OUTPUT_DIR" not in given:
        stage_follows = not eval_only and os.path.basename(folder) == stage
        cfg.OUTPUT_DIR = os.path.dirname(folder) if stage_follows else folder


def load_cache_config(
    config_file: str, options: list[str], also_for: Sequence[str] = ()
) -> tuple[CfgNode, KnowledgeRequest]:
    """Return the configuration of a distillation, completed and frozen, and what its cache holds.

    Args:
        config_file: configuration file of the distillation.
        options: ``KEY VALUE`` pairs for all files.
        also_for: configuration files of other methods that use the same cache.

    Raises:
        InputError: a configuration is wrong, ``KD.CACHE`` is empty, or the methods cannot share a cache.
    """
    cfg, *others = [_load_method(file, options) for file in (config_file, *also_for)]
    request = KnowledgeRequest.from_method(cfg)
    for file, other in zip(also_for, others, strict=True):
        for key in CACHE_KEYS:
            if config_value(other, key) != config_value(cfg, key):
                raise InputError(f"--also-for {file}: {key} is not that of {config_file}; make a cache of its own")
        request |= KnowledgeRequest.from_method(other)
    return cfg, request


def _load_method(config_file: str, options: list[str]) -> CfgNode:
    cfg = load_config(config_file, options)
    if not model_class(cfg).student_architecture or not cfg.KD.CACHE:
        raise InputError(
            f"--config-file {config_file}: a knowledge cache needs a distillation, such as configs/kd_vgg16.yaml, and "
            "its folder, such as KD.CACHE output/knowledge"
        )
    # finalize_config needs a stage and a test dataset, but caching does not depend on them.
    cfg.KD.STAGE = cfg.KD.METHOD_STAGES[0]
    cfg.DATASETS.TEST = cfg.DATASETS.TEST or cfg.DATASETS.TRAIN[:1]
    finalize_config(cfg)
    cfg.freeze()
    return cfg
