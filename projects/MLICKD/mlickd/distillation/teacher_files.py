"""Which teacher a dataset has: ``{dataset}`` in ``KD.TEACHER`` stands for the name of the dataset it speaks of."""

from __future__ import annotations

from detectron2.config import CfgNode

from mlickd.files import require_file
from mlickd.modeling.checkpoint import read_checkpoint

__all__ = ["DATASET", "check_teachers", "has_teacher_per_dataset", "with_teacher_of"]

DATASET = "{dataset}"


def has_teacher_per_dataset(cfg: CfgNode) -> bool:
    """Whether each training dataset has a teacher of its own, as in cross-fitting."""
    return DATASET in cfg.KD.TEACHER.WEIGHTS


def with_teacher_of(cfg: CfgNode, dataset: str | None = None) -> CfgNode:
    """The configuration with the files of one dataset's teacher; itself where all datasets share one teacher.

    Args:
        cfg: of the distillation.
        dataset: name of the dataset that the teacher speaks of; None for the first of ``DATASETS.TRAIN``. What they
            have in common, such as the shape of their features, any of them tells.
    """
    if not has_teacher_per_dataset(cfg) and DATASET not in cfg.KD.TEACHER.CONFIG_FILE:
        return cfg
    name = cfg.DATASETS.TRAIN[0] if dataset is None else dataset
    resolved = cfg.clone()
    resolved.defrost()
    for key in ("WEIGHTS", "CONFIG_FILE"):
        resolved.KD.TEACHER[key] = cfg.KD.TEACHER[key].replace(DATASET, name)
    if cfg.is_frozen():
        resolved.freeze()
    return resolved


def check_teachers(cfg: CfgNode) -> None:
    """Check that the checkpoint of each teacher is there and can be read.

    Raises:
        InputError: one is not, or cannot.
    """
    for dataset in dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.UNLABELED)):
        weights = with_teacher_of(cfg, dataset).KD.TEACHER.WEIGHTS
        require_file(weights, "KD.TEACHER.WEIGHTS", "train the teacher first, or give another path")
        read_checkpoint(weights, "KD.TEACHER.WEIGHTS", mapped=True)
