"""Configurations of runs: loaded, checked, and filled in from datasets, models and existing files."""

import argparse
import logging
import math
import os
from collections.abc import Sequence
from functools import reduce
from operator import attrgetter, or_

import torch
from detectron2.config import CfgNode
from detectron2.solver import build_lr_scheduler
from detectron2.utils import comm

from mlickd.config import default_config
from mlickd.config_files import find_config, merge_config_file, merge_options, split_config_files
from mlickd.data.build import count_training_images, model_class
from mlickd.data.catalog import class_names
from mlickd.distillation import KD_STAGES, KnowledgeRequest
from mlickd.errors import InputError
from mlickd.files import require_file
from mlickd.modeling.backbone.timm_backbone import set_pixel_statistics
from mlickd.modeling.checkpoint import model_blueprint
from mlickd.runs import STUDENT_CHECKPOINT, check_has_learned, replace_with_student

from .check_config import check_config
from .checkpointing import decide_to_resume
from .input_checks import check_inputs
from .processes import check_devices, num_processes
from .training_loop import mixed_precision

logger = logging.getLogger(__name__)

# Maximum number of epochs of a schedule that SOLVER.REFERENCE_IMAGES scales.
_MAX_EPOCHS = 200

# Methods that share a knowledge cache must have equal values of these keys.
CACHE_KEYS = ("KD.TEACHER", "KD.REGIONS", "KD.FEATURE.COMPARE", "KD.CACHE", "DATASETS", "INPUT.RANDOM_FLIP")


def load_config(config_file: str, options: list[str], kd_stage: str = "", option: str = "--config-file") -> CfgNode:
    """Return the configuration of a file with the given options and stage, before :func:`finalize_config`.

    Args:
        config_file: path, or several paths separated by commas. Later files replace values of earlier ones.
        options: ``KEY VALUE`` pairs.
        kd_stage: value of ``KD.STAGE``; empty keeps the value of the file.
        option: option of the command line that names the file, for error messages.

    Raises:
        InputError: the file is missing or malformed, or a key or a value is wrong.
    """
    cfg = default_config()
    for file in split_config_files(config_file):
        require_file(find_config(file), option, "give one, such as configs/scenes/cls.yaml")
        merge_config_file(cfg, file, f"{option} {file}")
    merge_options(cfg, options)
    if any(key.endswith("MAX_ITER") for key in options[::2]):
        cfg.SOLVER.REFERENCE_IMAGES = 0
    cfg.KD.STAGE = kd_stage or cfg.KD.STAGE
    return cfg


def load_checked_config(args: argparse.Namespace) -> CfgNode:
    """Load, finalize, check and freeze the configuration of ``mlickd train``, and check its inputs.

    ``args.resume`` becomes False if the run has no checkpoint.

    Raises:
        InputError: the configuration or the data is wrong.
    """
    cfg = load_config(args.config_file, args.opts, args.kd_stage)
    resolve_run_config(cfg, args.config_file, given=args.opts[::2], eval_only=args.eval_only)
    finalize_config(cfg, eval_only=args.eval_only, processes=num_processes(args))
    args.resume = decide_to_resume(cfg.OUTPUT_DIR, requested=args.resume and not args.eval_only)
    check_devices(cfg.MODEL.DEVICE, args)
    check_inputs(cfg, eval_only=args.eval_only, resume=args.resume)
    cfg.freeze()
    return cfg


def load_cache_config(
    config_file: str, options: list[str], also_for: Sequence[str] = ()
) -> tuple[CfgNode, KnowledgeRequest]:
    """Return the finalized configuration of a distillation, and the request for the contents of its knowledge cache.

    Args:
        config_file: configuration file of the distillation.
        options: ``KEY VALUE`` pairs for all files.
        also_for: configuration files of other methods that use the same cache.

    Raises:
        InputError: a configuration or its teacher is wrong, ``KD.CACHE`` is empty, or the methods cannot share a cache.
    """
    methods: list[CfgNode] = []
    for file in (config_file, *also_for):
        option = "--also-for" if methods else "--config-file"
        cfg = load_config(file, options, option=option)
        if not model_class(cfg).student_architecture or not cfg.KD.CACHE:
            raise InputError(
                f"{option} {file}: give the configuration of a distillation, such as configs/kd_vgg16.yaml, and "
                "set KD.CACHE to a folder, such as output/knowledge"
            )
        # finalize_config needs a stage and a test dataset, but caching does not depend on them.
        cfg.KD.STAGE = cfg.KD.METHOD_STAGES[0]
        cfg.DATASETS.TEST = cfg.DATASETS.TEST or cfg.DATASETS.TRAIN[:1]
        finalize_config(cfg)
        cfg.freeze()
        model_blueprint(cfg)  # finds wrong layers before the teacher runs
        methods.append(cfg)
        for key in CACHE_KEYS:
            if attrgetter(key)(cfg) != attrgetter(key)(methods[0]):
                raise InputError(f"--also-for {file}: {key} differs from {config_file}; make a separate cache")
    return methods[0], reduce(or_, map(KnowledgeRequest.for_method, methods))


def resolve_run_config(cfg: CfgNode, config_file: str, *, given: Sequence[str], eval_only: bool) -> None:
    """If a configuration file is the ``config.yaml`` of a run, set the folder of the run and its checkpoint.

    ``OUTPUT_DIR`` becomes the folder of the run and, in an evaluation, ``MODEL.WEIGHTS`` its checkpoint. The file's own
    values cannot be used: its ``MODEL.WEIGHTS`` is the checkpoint that training started from, and its ``OUTPUT_DIR``
    already ends with the stage.

    Args:
        cfg: configuration with the options of the command line, changed in place.
        config_file: its files, separated by commas.
        given: keys that the command line sets; they keep their values.
        eval_only: the run only evaluates.

    Raises:
        InputError: the command evaluates stage 1 of a distillation, or names two runs.
    """
    folders = list(filter(None, map(folder_of_run, split_config_files(config_file))))
    if not folders:
        return
    if len(folders) > 1:
        raise InputError(f"--config-file {config_file}: give the config.yaml of one run only")
    (folder,) = folders
    stage = cfg.KD.STAGE
    if eval_only:
        check_has_learned(cfg, f"--config-file {config_file}")
        checkpoint = replace_with_student(cfg)
        cfg.KD.STAGE, cfg.DATASETS.UNLABELED, cfg.DATASETS.PROPOSALS.UNLABELED_FILES = "", (), ()
        if "MODEL.WEIGHTS" not in given:
            cfg.MODEL.WEIGHTS = os.path.join(folder, checkpoint)
    if "OUTPUT_DIR" not in given:
        # finalize_config appends the stage.
        appends_stage = not eval_only and os.path.basename(os.path.abspath(folder)) == stage
        cfg.OUTPUT_DIR = os.path.normpath(os.path.join(folder, os.pardir)) if appends_stage else folder


def folder_of_run(file: str) -> str:
    """Return the folder of a run that has a checkpoint, given its ``config.yaml``; empty for any other file."""
    folder, name = os.path.split(file)
    folder = folder or "."
    checkpoints = ("model_final.pth", STUDENT_CHECKPOINT, "last_checkpoint")
    is_run = name == "config.yaml" and any(os.path.isfile(os.path.join(folder, name)) for name in checkpoints)
    return folder if is_run else ""


def finalize_config(cfg: CfgNode, *, eval_only: bool = False, processes: int | None = None) -> None:
    """Check a configuration and fill in the values that follow from datasets and model (in place).

    - ``MODEL.NUM_CLASSES`` becomes the number of classes of the datasets.
    - In a training, the numbers of iterations become those for the number of images (:func:`scale_schedule`).
    - ``MODEL.DEVICE`` becomes cpu if CUDA is not available.
    - With a timm backbone, ``MODEL.PIXEL_MEAN`` and ``MODEL.PIXEL_STD`` become the values that its model expects.
    - In a stage of distillation, ``SOLVER`` gets the schedule of the stage, and ``OUTPUT_DIR`` becomes
      ``<OUTPUT_DIR>/<stage>``. If ``MODEL.WEIGHTS`` is empty, stage ``prediction`` starts from the student of stage
      ``feature``, unless the method does not have this stage (``KD.METHOD_STAGES``).
    - In an evaluation, an empty ``MODEL.WEIGHTS`` becomes the checkpoint in ``OUTPUT_DIR``, a distilled model becomes
      its student, and ``OUTPUT_DIR`` becomes ``<OUTPUT_DIR>/evaluation``, so that training results are not overwritten.

    Args:
        cfg: configuration, see :func:`load_config`.
        eval_only: the run only evaluates.
        processes: number of processes that will train together; by default the current number.

    Raises:
        InputError: a value, dataset, class count or stage is wrong.
    """
    # Processes divide a batch only in training.
    check_config(cfg, 1 if eval_only else comm.get_world_size() if processes is None else processes)
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logger.warning("MODEL.DEVICE %s: CUDA is not available, using the CPU", cfg.MODEL.DEVICE)
        cfg.MODEL.DEVICE = "cpu"
    processor = torch.backends.cpu.get_cpu_capability()
    if not eval_only and mixed_precision(cfg) and cfg.MODEL.DEVICE == "cpu" and processor in ("DEFAULT", "AVX2"):
        logger.warning(
            "SOLVER.AMP: this CPU (%s) has no native bfloat16; emulating it is many times slower than float32",
            processor,
        )
    _fill_in_classes(cfg, ("TEST",) if eval_only else ("TRAIN", "TEST"))
    if not eval_only:
        scale_schedule(cfg)
    set_pixel_statistics(cfg)
    stages = tuple(cfg.KD.METHOD_STAGES) if model_class(cfg).student_architecture else ("",)
    if cfg.KD.STAGE not in stages:
        expected = " or ".join(stages) or "left out: the model has no stages"
        raise InputError(f"--kd-stage {cfg.KD.STAGE or '(missing)'} must be {expected}; see KD.METHOD_STAGES")
    if cfg.KD.STAGE:
        _fill_in_stage(cfg)
    if not eval_only:
        _check_schedule(cfg)

    if eval_only:
        check_has_learned(cfg, cfg.OUTPUT_DIR)
        checkpoint = replace_with_student(cfg)
        cfg.MODEL.WEIGHTS = cfg.MODEL.WEIGHTS or os.path.join(cfg.OUTPUT_DIR, checkpoint)
        cfg.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, "evaluation")
    elif cfg.KD.STAGE != stages[0] and not cfg.MODEL.WEIGHTS:
        cfg.MODEL.WEIGHTS = os.path.join(os.path.dirname(cfg.OUTPUT_DIR), KD_STAGES[0], STUDENT_CHECKPOINT)
    if cfg.MODEL.WEIGHTS:
        cfg.MODEL.TIMM.PRETRAINED = False  # the checkpoint replaces the weights that would be downloaded


def scale_schedule(cfg: CfgNode, images: int = 0) -> list[str]:
    """Scale the schedule with the number of images (in place), see ``SOLVER.REFERENCE_IMAGES``.

    Args:
        cfg: configuration; ``SOLVER.REFERENCE_IMAGES`` becomes 0.
        images: number of images; 0 for the images of the training datasets.

    Returns:
        The keys of the schedule as options, also unchanged ones: a run on other images must not scale them again.
    """
    solver = cfg.SOLVER
    if not solver.REFERENCE_IMAGES:
        return []
    images = images or count_training_images(cfg)
    factor = max(1.0, images / solver.REFERENCE_IMAGES)
    factor = min(factor, _MAX_EPOCHS * images / (solver.IMS_PER_BATCH * solver.MAX_ITER))
    solver.REFERENCE_IMAGES = 0
    keys = ["SOLVER.MAX_ITER", "KD.FEATURE.MAX_ITER", "KD.PREDICTION.MAX_ITER"]
    options = {key: math.ceil(value * factor) for key in keys if (value := attrgetter(key)(cfg))}
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        options["SOLVER.STEPS"] = tuple(math.ceil(step * factor) for step in solver.STEPS)
    pairs = [item for pair in options.items() for item in pair]
    cfg.merge_from_list(pairs)
    return [str(item) for item in pairs]


def _fill_in_classes(cfg: CfgNode, splits: Sequence[str]) -> None:
    """Set the number of classes, and check that all datasets of these splits have the same classes."""
    for split in splits:
        if not cfg.DATASETS[split]:
            example = f"DATASETS.{split} \"('scenes_{split.lower()}',)\""
            raise InputError(f"DATASETS.{split} is empty; name a dataset, for instance {example}")
    reference, *others = [name for split in splits for name in cfg.DATASETS[split]]
    names = class_names(reference)
    for other in others:
        if class_names(other) != names:
            raise InputError(f"datasets {reference} and {other} have different classes; use splits of one dataset")
    if cfg.MODEL.NUM_CLASSES not in (-1, len(names)):
        raise InputError(
            f"MODEL.NUM_CLASSES {cfg.MODEL.NUM_CLASSES}: dataset {reference} has {len(names)} classes; leave it at -1"
        )
    cfg.MODEL.NUM_CLASSES = len(names)


def _check_schedule(cfg: CfgNode) -> None:
    """Drop the steps outside of the training, which fvcore refuses, and check that the rest fits together."""
    multi_step = cfg.SOLVER.LR_SCHEDULER_NAME == "WarmupMultiStepLR"
    if multi_step and any(step >= cfg.SOLVER.MAX_ITER for step in cfg.SOLVER.STEPS):
        logger.warning(
            "SOLVER.STEPS %s: SOLVER.MAX_ITER is %d; later steps are dropped", cfg.SOLVER.STEPS, cfg.SOLVER.MAX_ITER
        )
    cfg.SOLVER.STEPS = tuple(step for step in cfg.SOLVER.STEPS if 0 < step < cfg.SOLVER.MAX_ITER)
    try:
        build_lr_scheduler(cfg, torch.optim.SGD([torch.zeros(1)], lr=cfg.SOLVER.BASE_LR))
    except (AssertionError, ValueError) as error:
        raise InputError(
            f"the schedule of the learning rate is not possible ({error or 'a value is out of range'}); correct "
            "SOLVER.STEPS, MAX_ITER, WARMUP_ITERS, WARMUP_FACTOR or BASE_LR_END"
        ) from error


def _fill_in_stage(cfg: CfgNode) -> None:
    """Apply the schedule of the stage, and append the stage to the folder."""
    stage_cfg = cfg.KD[cfg.KD.STAGE.upper()]
    max_iter = stage_cfg.MAX_ITER or cfg.SOLVER.MAX_ITER
    cfg.SOLVER.STEPS = tuple(step * max_iter // cfg.SOLVER.MAX_ITER for step in cfg.SOLVER.STEPS)
    cfg.SOLVER.MAX_ITER = max_iter
    if cfg.KD.STAGE == "feature":
        cfg.SOLVER.BASE_LR = stage_cfg.BASE_LR or cfg.SOLVER.BASE_LR
        if stage_cfg.WARMUP_ITERS >= 0:
            cfg.SOLVER.WARMUP_ITERS = stage_cfg.WARMUP_ITERS
    cfg.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, cfg.KD.STAGE)
