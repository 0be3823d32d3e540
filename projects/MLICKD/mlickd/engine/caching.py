"""Configurations of methods whose teacher's knowledge is to be cached."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.config import CfgNode

from mlickd.data.build import model_class
from mlickd.distillation import KnowledgeRequest
from mlickd.errors import InputError

from .check_config import config_value
from .setup import complete_config, load_config

__all__ = ["CACHE_KEYS", "prepare_caching"]

# Methods that share a cache must have the same values of these keys. It holds what any of them asks the teacher for.
CACHE_KEYS = ("KD.TEACHER", "KD.REGIONS", "KD.FEATURE.COMPARE", "KD.CACHE", "DATASETS", "INPUT.RANDOM_FLIP")


def prepare_caching(
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
    # complete_config needs a stage and a test dataset, but caching does not depend on them.
    cfg.KD.STAGE = cfg.KD.METHOD_STAGES[0]
    cfg.DATASETS.TEST = cfg.DATASETS.TEST or cfg.DATASETS.TRAIN[:1]
    complete_config(cfg)
    cfg.freeze()
    return cfg
