"""From a command line to a configuration that is complete and checked."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from mlickd.config import default_config
from mlickd.config_files import merge_config_file, merge_options
from mlickd.data import open_proposals
from mlickd.data.build import model_class, needs_knowledge, needs_proposals, training_datasets
from mlickd.data.catalog import class_names, dataset_records
from mlickd.distillation import KD_STAGES
from mlickd.distillation.cache import CachedKnowledge
from mlickd.distillation.calibration import load_calibration
from mlickd.distillation.teacher import check_teacher, load_teacher_config
from mlickd.distillation.teacher_files import check_teachers
from mlickd.errors import InputError, silence_known_warnings
from mlickd.evaluation.thresholds import read_thresholds
from mlickd.files import require_file
from mlickd.modeling.backbone import check_backbone_weights
from mlickd.modeling.backbone.timm_backbone import timm_pixel_statistics
from mlickd.modeling.checkpoint import check_checkpoint, check_fits, model_blueprint, read_checkpoint
from mlickd.runs import (
    STUDENT_CHECKPOINT,
    check_has_learned,
    data_record,
    use_student,
    write_class_names,
)

from .check_config import check_config
from .checkpointing import saved_checkpoints
from .performance import keep_freed_memory
from .processes import check_devices, num_processes
from .training_log import shorten_tracebacks
from .training_loop import mixed_precision

__all__ = [
    "STUDENT_CHECKPOINT",
    "check_inputs",
    "complete_config",
    "load_config",
    "prepare",
    "setup",
    "resolve_run_config",
]

logger = logging.getLogger(__name__)


def load_config(config_file: str, options: list[str], kd_stage: str | None = None) -> CfgNode:
    """The configuration of a file, the options behind it, and the stage; not yet completed.

    Raises:
        InputError: the file is missing or malformed, or has an unknown key, an ill-typed value or stage.
    """
    cfg = default_config()
    if not config_file:
        raise InputError("--config-file is missing; give one, such as configs/scenes/cls.yaml")
    require_file(config_file, "--config-file", "give one, such as configs/scenes/cls.yaml")
    merge_config_file(cfg, config_file, f"--config-file {config_file}")
    merge_options(cfg, options)
    if kd_stage is not None:
        cfg.KD.STAGE = kd_stage
    return cfg


def complete_config(
    cfg: CfgNode, *, eval_only: bool = False, resume: bool = False, processes: int | None = None
) -> None:
    """Fill in what follows from the datasets, the model and the files at hand (in place).

    - ``MODEL.NUM_CLASSES`` from the training dataset, ``MODEL.DEVICE`` cpu where there is no CUDA;
    - pixel statistics of a timm model;
    - of a stage of distillation, its learning rate and iterations; ``OUTPUT_DIR`` becomes ``<OUTPUT_DIR>/<stage>``; and
      stage ``prediction`` starts from the student of stage ``feature`` under the same root where ``MODEL.WEIGHTS`` is
      not given and the method has that stage (``KD.METHOD_STAGES``);
    - for evaluation, the checkpoint in ``OUTPUT_DIR`` where ``MODEL.WEIGHTS`` is not given; results go to
      ``<OUTPUT_DIR>/evaluation``, so that what training wrote stays; and of a student in distillation only the student
      is left.

    Args:
        cfg: from :func:`load_config`.
        eval_only: to evaluate, not to train.
        resume: to go on with a run where there is one.
        processes: that are to train together; None: as many as have begun to.

    Raises:
        InputError: a value, dataset, class count, stage, checkpoint or file of thresholds is wrong.
    """
    check_config(cfg, comm.get_world_size() if processes is None else processes)
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logger.warning("MODEL.DEVICE %s: CUDA is not available, using the CPU", cfg.MODEL.DEVICE)
        cfg.MODEL.DEVICE = "cpu"
    precision = mixed_precision(cfg)  # the device is known now
    processor = torch.backends.cpu.get_cpu_capability()
    if precision and cfg.MODEL.DEVICE == "cpu" and processor in ("DEFAULT", "AVX2"):
        logger.warning("SOLVER.AMP: a processor without bfloat16 (this one has %s) is many times slower so", processor)
    _complete_classes(cfg, eval_only)
    if cfg.MODEL.BACKBONE.NAME == "build_timm_backbone" and cfg.MODEL.TIMM.USE_MODEL_PIXEL_STATISTICS:
        cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = timm_pixel_statistics(cfg.MODEL.TIMM.NAME)
        cfg.INPUT.FORMAT = "RGB"
    _complete_stage(cfg, eval_only, resume)
    if eval_only:
        _complete_evaluation(cfg)
    if cfg.MODEL.WEIGHTS:
        # A run that goes on has no more need of it.
        if eval_only or not (resume and saved_checkpoints(Path(cfg.OUTPUT_DIR))):
            require_file(cfg.MODEL.WEIGHTS, "MODEL.WEIGHTS", "train it first, or give another path")
        cfg.MODEL.TIMM.PRETRAINED = False  # nothing is fetched that the checkpoint replaces
    if cfg.TEST.THRESHOLDS:
        _check_thresholds(cfg, eval_only)
    if cfg.TEST.CORRUPTION and not eval_only:
        raise InputError(
            f"TEST.CORRUPTION {cfg.TEST.CORRUPTION}: training sees no damage; leave it empty, and give it with "
            "--eval-only"
        )


def _check_thresholds(cfg: CfgNode, eval_only: bool) -> None:
    if not eval_only:
        raise InputError(
            f"TEST.THRESHOLDS {cfg.TEST.THRESHOLDS}: thresholds belong to a trained checkpoint; leave it empty in "
            "training, and give it with --eval-only"
        )
    thresholds = read_thresholds(cfg.TEST.THRESHOLDS)
    thresholds.check(f"TEST.THRESHOLDS {cfg.TEST.THRESHOLDS}", class_names(cfg.DATASETS.TEST[0]), cfg.MODEL.WEIGHTS)
    for name in cfg.DATASETS.TEST:
        if data_record(name)["sha256"] == thresholds.data_sha256:
            logger.warning("TEST.THRESHOLDS were tuned on the images of %s: what they give there is too good", name)


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
    if cfg.MODEL.NUM_CLASSES == -1:
        cfg.MODEL.NUM_CLASSES = len(names)
    elif cfg.MODEL.NUM_CLASSES != len(names):
        raise InputError(
            f"MODEL.NUM_CLASSES {cfg.MODEL.NUM_CLASSES}: dataset {reference} has {len(names)} classes; leave it at -1"
        )


def _complete_stage(cfg: CfgNode, eval_only: bool, resume: bool) -> None:
    if not model_class(cfg).student_architecture:
        if cfg.KD.STAGE:
            raise InputError(
                f"--kd-stage {cfg.KD.STAGE}: MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE}, which has no "
                "stages; take a config with a DistilledClassifier, for instance configs/kd_vgg16.yaml"
            )
        return
    if cfg.KD.STAGE not in KD_STAGES:
        given = f"--kd-stage {cfg.KD.STAGE}: there is no such stage" if cfg.KD.STAGE else "--kd-stage is missing"
        raise InputError(f"{given}; give {' or '.join(KD_STAGES)}")
    if cfg.KD.STAGE not in cfg.KD.METHOD_STAGES:
        raise InputError(
            f"--kd-stage {cfg.KD.STAGE}: KD.METHOD_STAGES is {tuple(cfg.KD.METHOD_STAGES)}; give one of these, "
            "or name both in KD.METHOD_STAGES"
        )
    of_stage = cfg.KD[cfg.KD.STAGE.upper()]
    cfg.SOLVER.BASE_LR = of_stage.BASE_LR or cfg.SOLVER.BASE_LR
    cfg.SOLVER.MAX_ITER = of_stage.MAX_ITER or cfg.SOLVER.MAX_ITER
    if of_stage.WARMUP_ITERS >= 0:
        cfg.SOLVER.WARMUP_ITERS = of_stage.WARMUP_ITERS
    root = cfg.OUTPUT_DIR
    cfg.OUTPUT_DIR = os.path.join(root, cfg.KD.STAGE)
    resumed = resume and bool(saved_checkpoints(Path(cfg.OUTPUT_DIR)))
    follows = cfg.KD.STAGE == "prediction" and "feature" in cfg.KD.METHOD_STAGES
    if follows and not cfg.MODEL.WEIGHTS and not eval_only and not resumed:
        weights = os.path.join(root, "feature", STUDENT_CHECKPOINT)
        if not PathManager.isfile(weights):
            raise InputError(
                f"MODEL.WEIGHTS is empty and stage 1 has left no {weights}; run `--kd-stage feature` first, or name a "
                "student's checkpoint as MODEL.WEIGHTS; stage 2 alone: KD.METHOD_STAGES \"('prediction',)\""
            )
        cfg.MODEL.WEIGHTS = weights


def _complete_evaluation(cfg: CfgNode) -> None:
    checkpoint = use_student(cfg)
    if not cfg.MODEL.WEIGHTS:
        cfg.MODEL.WEIGHTS = os.path.join(cfg.OUTPUT_DIR, checkpoint)
    cfg.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, "evaluation")


def check_inputs(cfg: CfgNode, *, eval_only: bool = False, resume: bool = False) -> None:
    """Everything that can be wrong with data, models and checkpoints, before anything is written.

    Args:
        cfg: from :func:`complete_config`.
        eval_only: to evaluate, not to train.
        resume: to go on with a run where there is one.

    Raises:
        InputError: a record, an image, a proposal store, a model, a checkpoint, a teacher or its cache does not fit.
    """
    trained_on = () if eval_only else training_datasets(cfg)
    for name, training in [*((name, True) for name in trained_on), *((name, False) for name in cfg.DATASETS.TEST)]:
        records = dataset_records(name, boxes=False)
        if needs_proposals(cfg, training=training):
            open_proposals(cfg, name).check(records)
    if not eval_only:
        _check_unlabeled(cfg)
    if model_class(cfg).student_architecture and not eval_only:
        load_teacher_config(cfg)
        check_teachers(cfg)
        if cfg.KD.CACHE:
            CachedKnowledge(cfg)
        elif needs_knowledge(cfg):
            check_teacher(cfg)
        load_calibration(cfg)
    _check_model(cfg, resume and not eval_only)


def _check_model(cfg: CfgNode, resume: bool) -> None:
    """That the model can be built, and that what it starts from fits it."""
    model = model_blueprint(cfg)
    # The student of a distillation starts from a classifier, or from a backbone's weights.
    target = getattr(model, "student", model)
    saved = saved_checkpoints(Path(cfg.OUTPUT_DIR)) if resume else []
    for name in saved:
        path = os.path.join(cfg.OUTPUT_DIR, name)
        try:
            content = read_checkpoint(path, "--resume", mapped=True)
        except InputError:
            continue  # a damaged one gives way to the one before
        check_fits(model, content, "--resume", path)
        break
    if saved:
        return
    if cfg.MODEL.WEIGHTS:
        check_checkpoint(target, cfg.MODEL.WEIGHTS, "MODEL.WEIGHTS")
    elif cfg.MODEL.BACKBONE.WEIGHTS:
        check_backbone_weights(target, cfg.MODEL.BACKBONE.WEIGHTS)


def _check_unlabeled(cfg: CfgNode) -> None:
    """An image must not train with its labels and as one that has none."""
    labeled = {
        record["file_name"]: name for name in cfg.DATASETS.TRAIN for record in dataset_records(name, boxes=False)
    }
    for name in cfg.DATASETS.UNLABELED:
        for record in dataset_records(name, boxes=False):
            if record["file_name"] in labeled:
                raise InputError(
                    f"DATASETS.UNLABELED: image {record['image_id']} of {name} is in {labeled[record['file_name']]} "
                    "of DATASETS.TRAIN, too; give parts that share no image, such as NAME@1of4 and NAME@not1of4"
                )


def prepare(args: argparse.Namespace) -> CfgNode:
    """What ``tools/train_net.py`` does first, in one process: the configuration, completed, checked and frozen.

    Args:
        args: of Detectron2's ``default_argument_parser``, with ``kd_stage``.

    Raises:
        InputError: whatever is wrong with configuration or data.
    """
    cfg = load_config(args.config_file, args.opts, args.kd_stage)
    resolve_run_config(cfg, args.config_file, given=args.opts[::2], eval_only=args.eval_only)
    processes = num_processes(args)
    complete_config(cfg, eval_only=args.eval_only, resume=args.resume, processes=processes)
    check_devices(cfg.MODEL.DEVICE, args)
    check_inputs(cfg, eval_only=args.eval_only, resume=args.resume)
    cfg.freeze()
    return cfg


def resolve_run_config(cfg: CfgNode, config_file: str, *, given: Sequence[str], eval_only: bool) -> None:
    """Of the ``config.yaml`` that a run has left, take the run: its folder, and in evaluation what it has learned.

    The file names what training started from, and a folder that the stage has been appended to.

    Args:
        cfg: what :func:`load_config` read of the file and the options; changed in place.
        config_file: its path; the configuration of no run stays as it is.
        given: keys of the options, which stay as they are.
        eval_only: the run is to be evaluated, and not to go on.

    Raises:
        InputError: stage 1 of a distillation is to be evaluated.
    """
    folder, name = os.path.split(config_file)
    checkpoints = ("model_final.pth", STUDENT_CHECKPOINT, "last_checkpoint")
    if name != "config.yaml" or not any(PathManager.isfile(os.path.join(folder, file)) for file in checkpoints):
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


def setup(cfg: CfgNode, args: argparse.Namespace) -> None:
    """What each process does before it trains: Detectron2's loggers, seed and record of the configuration, names of
    the classes, memory.

    Args:
        cfg: from :func:`prepare`.
        args: for the log.
    """
    default_setup(cfg, args)
    if cfg.MODEL.DEVICE == "cpu":
        keep_freed_memory()
    # Messages of this project go where Detectron2's go.
    own = logging.getLogger("mlickd")
    for handler in logging.getLogger("detectron2").handlers:
        own.addHandler(handler)
    own.setLevel(logging.INFO)
    shorten_tracebacks()
    silence_known_warnings()
    own.propagate = False
    names = class_names(cfg.DATASETS.TEST[0])
    logger.info("Classes: %s", ", ".join(names))
    if comm.is_main_process():
        write_class_names(cfg.OUTPUT_DIR, names)
    if cfg.MODEL.WEIGHTS and not args.resume:
        logger.info("Starting from MODEL.WEIGHTS %s", cfg.MODEL.WEIGHTS)
