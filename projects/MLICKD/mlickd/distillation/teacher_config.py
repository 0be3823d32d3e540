"""The configuration of the teacher, and the check that it fits a distillation."""

import os

from detectron2.config import CfgNode

from mlickd.config import default_config
from mlickd.config_files import merge_config_file
from mlickd.data.build import model_class
from mlickd.data.catalog import check_run_classes
from mlickd.errors import InputError
from mlickd.files import require_file
from mlickd.modeling.checkpoint import check_checkpoint, model_blueprint

from .knowledge_request import KnowledgeRequest


def load_teacher_config(cfg: CfgNode) -> CfgNode:
    """Load the teacher's configuration, the ``config.yaml`` next to ``KD.TEACHER.WEIGHTS``.

    Args:
        cfg: configuration of the distillation.

    Returns:
        The frozen configuration, with the path of the teacher's checkpoint in ``MODEL.WEIGHTS``.

    Raises:
        InputError: the file is missing, does not configure a teacher, or has another number of classes.
    """
    weights = cfg.KD.TEACHER.WEIGHTS
    if not weights:
        raise InputError("KD.TEACHER.WEIGHTS is empty; set it to the checkpoint of a trained teacher")
    path = os.path.join(os.path.dirname(weights), "config.yaml")
    require_file(path, "KD.TEACHER.WEIGHTS: its configuration", "train the teacher first, or copy the file there")
    teacher_cfg = default_config()
    merge_config_file(teacher_cfg, path, f"KD.TEACHER.WEIGHTS: {path} is not a configuration of this project")
    model = teacher_cfg.MODEL
    if not model_class(teacher_cfg).is_detector or cfg.MODEL.NUM_CLASSES not in (model.NUM_CLASSES, -1):
        raise InputError(
            f"KD.TEACHER.WEIGHTS: {path} is a {model.META_ARCHITECTURE} with {model.NUM_CLASSES} classes; use a "
            f"detector with {cfg.MODEL.NUM_CLASSES} classes, like the student"
        )
    model.WEIGHTS = weights
    # The checkpoint replaces all initial weights, so do not download them.
    model.BACKBONE.WEIGHTS = ""
    model.TIMM.PRETRAINED = False
    model.DEVICE = cfg.MODEL.DEVICE
    teacher_cfg.freeze()
    return teacher_cfg


def check_teacher(cfg: CfgNode, teacher_cfg: CfgNode, request: KnowledgeRequest | None) -> None:
    """Check that a teacher fits the data and, if it will run, its checkpoint and the size of its images.

    Args:
        cfg: configuration of the distillation.
        teacher_cfg: result of :func:`load_teacher_config`.
        request: what the teacher computes; None if it does not run, because a cache has its outputs.

    Raises:
        InputError: the teacher has other classes, was trained with proposals of another method, its checkpoint is
            missing, corrupt or of another model, or its maps have padding, which the student's maps do not have.
    """
    weights, ours, theirs = teacher_cfg.MODEL.WEIGHTS, cfg.DATASETS.PROPOSALS, teacher_cfg.DATASETS.PROPOSALS
    for name in cfg.DATASETS.TRAIN:
        check_run_classes(weights, "KD.TEACHER.WEIGHTS", name)
    if ours.METHOD != theirs.METHOD and not ours.TRAIN_FILES and not theirs.TRAIN_FILES:
        raise InputError(
            f"DATASETS.PROPOSALS.METHOD {ours.METHOD}: the teacher {weights} has learned from {theirs.METHOD}; set the "
            "key to it, or name proposals in DATASETS.PROPOSALS.TRAIN_FILES"
        )
    if request is None:
        return
    model = model_blueprint(teacher_cfg)
    check_checkpoint(model, weights, "KD.TEACHER.WEIGHTS")
    size, divisor = teacher_cfg.INPUT.SIZE_TEST, max(model.backbone.size_divisibility, 1)
    if (request.region_layers or request.maps) and size % divisor:
        raise InputError(
            f"KD.TEACHER.WEIGHTS {weights}: distillers of features need maps without padding, but this backbone pads "
            f"{size} pixels (INPUT.SIZE_TEST of the teacher) to a multiple of {divisor}; train the teacher with one"
        )
