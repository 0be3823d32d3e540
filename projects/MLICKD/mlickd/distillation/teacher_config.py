"""The configuration of the teacher for each training dataset."""

import os
from collections.abc import Mapping

from detectron2.config import CfgNode

from mlickd.config import default_config
from mlickd.config_files import merge_config_file
from mlickd.data.build import model_class, training_datasets
from mlickd.data.catalog import check_run_classes
from mlickd.errors import InputError
from mlickd.files import require_file
from mlickd.modeling.checkpoint import check_checkpoint, model_blueprint

# Placeholder for the name of the dataset in KD.TEACHER.WEIGHTS.
DATASET = "{dataset}"


def has_teacher_per_dataset(cfg: CfgNode) -> bool:
    """Return whether each training dataset has a separate teacher, as in cross-fitting."""
    return DATASET in cfg.KD.TEACHER.WEIGHTS


def load_teacher_configs(cfg: CfgNode) -> dict[str, CfgNode]:
    """Load the teacher's configuration for each training dataset, see :func:`load_teacher_config`.

    Raises:
        InputError: a teacher cannot be loaded, has other classes, or was trained with proposals of another method.
    """
    names = training_datasets(cfg)
    if has_teacher_per_dataset(cfg):
        teachers = {name: load_teacher_config(cfg, name) for name in names}
    else:
        teachers = dict.fromkeys(names, load_teacher_config(cfg))
    ours = cfg.DATASETS.PROPOSALS
    for name, teacher in teachers.items():
        if name in cfg.DATASETS.TRAIN:
            check_run_classes(teacher.MODEL.WEIGHTS, "KD.TEACHER.WEIGHTS", name)
        theirs = teacher.DATASETS.PROPOSALS
        if ours.METHOD != theirs.METHOD and not ours.TRAIN_FILES and not theirs.TRAIN_FILES:
            raise InputError(
                f"DATASETS.PROPOSALS.METHOD {ours.METHOD}: the teacher {cfg.KD.TEACHER.WEIGHTS} has learned from "
                f"{theirs.METHOD}; set the key to it, or name proposals in DATASETS.PROPOSALS.TRAIN_FILES"
            )
    return teachers


def load_teacher_config(cfg: CfgNode, dataset: str | None = None) -> CfgNode:
    """Load the teacher's configuration, the ``config.yaml`` next to ``KD.TEACHER.WEIGHTS``.

    Args:
        cfg: configuration of the distillation.
        dataset: training dataset; None takes the first.

    Returns:
        The frozen configuration, with the path of the teacher's checkpoint in ``MODEL.WEIGHTS``.

    Raises:
        InputError: the file is missing, does not configure a teacher, or has another number of classes.
    """
    name = dataset or next(iter(training_datasets(cfg)), "")
    weights = cfg.KD.TEACHER.WEIGHTS.replace(DATASET, name)
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


def check_teachers(teachers: Mapping[str, CfgNode]) -> None:
    """Raise InputError if the checkpoint of a configuration is missing or corrupt, or does not fit it."""
    for teacher_cfg in {id(teacher_cfg): teacher_cfg for teacher_cfg in teachers.values()}.values():
        check_checkpoint(model_blueprint(teacher_cfg), teacher_cfg.MODEL.WEIGHTS, "KD.TEACHER.WEIGHTS")
