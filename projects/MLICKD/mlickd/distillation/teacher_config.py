"""The configuration of the teacher."""

import os

from detectron2.config import CfgNode

from mlickd.config import default_config
from mlickd.config_files import merge_config_file
from mlickd.data.build import model_class
from mlickd.data.catalog import check_run_classes
from mlickd.errors import InputError
from mlickd.files import require_file


def load_teacher_config(cfg: CfgNode) -> CfgNode:
    """Load the teacher's configuration, the ``config.yaml`` next to ``KD.TEACHER.WEIGHTS``.

    Args:
        cfg: configuration of the distillation.

    Returns:
        The frozen configuration, with the path of the teacher's checkpoint in ``MODEL.WEIGHTS``.

    Raises:
        InputError: the file is missing, does not configure a teacher, or the teacher has other classes, or was trained
            with proposals of another method.
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
    for name in cfg.DATASETS.TRAIN:
        check_run_classes(weights, "KD.TEACHER.WEIGHTS", name)
    ours, theirs = cfg.DATASETS.PROPOSALS, teacher_cfg.DATASETS.PROPOSALS
    if ours.METHOD != theirs.METHOD and not ours.TRAIN_FILES and not theirs.TRAIN_FILES:
        raise InputError(
            f"DATASETS.PROPOSALS.METHOD {ours.METHOD}: the teacher {weights} has learned from {theirs.METHOD}; set the "
            "key to it, or name proposals in DATASETS.PROPOSALS.TRAIN_FILES"
        )
    model.WEIGHTS = weights
    # The checkpoint replaces all initial weights, so do not download them.
    model.BACKBONE.WEIGHTS = ""
    model.TIMM.PRETRAINED = False
    model.DEVICE = cfg.MODEL.DEVICE
    teacher_cfg.freeze()
    return teacher_cfg
