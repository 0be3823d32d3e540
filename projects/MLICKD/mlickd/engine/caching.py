"""From the command line of ``tools/cache_knowledge.py`` to a knowledge cache."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from detectron2.config import CfgNode

from mlickd.data import open_proposals
from mlickd.data.build import model_class, training_datasets
from mlickd.data.catalog import dataset_records
from mlickd.data.proposals.generation import shard_records
from mlickd.distillation import KnowledgeRequest
from mlickd.distillation.cache import CachedKnowledge, ShardPlan, plan_shard, run_teacher, shard_folder, shard_lock
from mlickd.distillation.cache.writer import readable_size, writable
from mlickd.distillation.teacher import check_teacher
from mlickd.errors import InputError

from .performance import keep_freed_memory
from .processes import select_local_gpu
from .setup import complete_config, load_config

__all__ = ["CACHE_KEYS", "check_cache", "config_value", "make_cache", "prepare_caching"]

logger = logging.getLogger(__name__)

# Methods that share a cache have these in common; what is asked of the teacher beyond them is added up.
CACHE_KEYS = ("KD.TEACHER", "KD.REGIONS", "KD.FEATURE.COMPARE", "KD.CACHE", "DATASETS", "INPUT.RANDOM_FLIP")


def prepare_caching(
    config_file: str, options: list[str], also_for: Sequence[str] = ()
) -> tuple[CfgNode, KnowledgeRequest]:
    """The configuration of a distillation whose teacher is to be cached, completed and frozen, and what is to be kept.

    Args:
        config_file: of the distillation.
        options: ``KEY VALUE`` pairs, for all of them.
        also_for: files of other methods that are to use the cache, too.

    Raises:
        InputError: something is wrong with one, ``KD.CACHE`` is not given, or the methods do not share a teacher and
            the rule of R'.
    """
    cfg, *others = [_load_method(file, options) for file in (config_file, *also_for)]
    request = KnowledgeRequest.of_method(cfg)
    for file, other in zip(also_for, others, strict=True):
        for key in CACHE_KEYS:
            if config_value(other, key) != config_value(cfg, key):
                raise InputError(f"--also-for {file}: {key} is not that of {config_file}; make a cache of its own")
        request |= KnowledgeRequest.of_method(other)
    return cfg, request


def _load_method(config_file: str, options: list[str]) -> CfgNode:
    cfg = load_config(config_file, options)
    if not model_class(cfg).student_architecture:
        raise InputError(
            f"--config-file {config_file}: a {cfg.MODEL.META_ARCHITECTURE} has no teacher; give the configuration of "
            "the distillation, for instance configs/kd_vgg16.yaml"
        )
    if not cfg.KD.CACHE:
        raise InputError("KD.CACHE is empty; name the folder of the cache, for instance KD.CACHE output/knowledge")
    # Completing wants a stage, and what is kept is that of all of them.
    cfg.KD.STAGE = cfg.KD.METHOD_STAGES[0]
    # It wants a dataset to test on, too; here nothing is tested.
    cfg.DATASETS.TEST = cfg.DATASETS.TEST or cfg.DATASETS.TRAIN[:1]
    complete_config(cfg)
    cfg.freeze()
    return cfg


def config_value(cfg: CfgNode, key: str) -> object:
    """A value or a part of a configuration by its full key."""
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def make_cache(
    cfg: CfgNode,
    request: KnowledgeRequest | None = None,
    *,
    shard: tuple[int, int] = (1, 1),
    mirrored: bool = True,
    batch_size: int = 4,
) -> None:
    """Make sure that ``KD.CACHE`` holds a shard of each of ``DATASETS.TRAIN`` and ``DATASETS.UNLABELED``.

    What is there already is not made again. The bytes depend on neither the number of processes nor interruptions.

    Args:
        cfg: from :func:`prepare_caching`.
        request: what is kept beside image scores; None: what the stages of ``cfg`` ask for.
        shard: number, from 1, and count.
        mirrored: run the teacher on the mirrored images, too, where training mirrors (``INPUT.RANDOM_FLIP``
            ``horizontal``). Without, mirrored views take flipped features, for half the time and room.
        batch_size: images that the teacher sees at once.

    Raises:
        InputError: images, proposals, teacher or disk do not do; the folder holds another cache.
    """
    select_local_gpu(cfg.MODEL.DEVICE)
    request = KnowledgeRequest.of_method(cfg) if request is None else request
    mirrored = mirrored and cfg.INPUT.RANDOM_FLIP == "horizontal"
    for name in training_datasets(cfg):
        records = shard_records(dataset_records(name, boxes=False), *shard)
        open_proposals(cfg, name).check(records)
        check_teacher(cfg, name)
    for name in training_datasets(cfg):
        folder = shard_folder(cfg.KD.CACHE, name, shard)
        with writable(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with shard_lock(folder):
            plan = plan_shard(cfg, name, shard, request, mirrored=mirrored, batch_size=batch_size)
            if plan.batches:
                _run(cfg, plan)
        logger.info("%s: whole, %d images", folder, plan.num_images)


def check_cache(cfg: CfgNode, request: KnowledgeRequest) -> None:
    """Open the cache as training does.

    Raises:
        InputError: it is incomplete, damaged, or does not fit.
    """
    for name, cache in CachedKnowledge(cfg, request).caches.items():
        logger.info(
            "%s: %d images in %d shards, %s", name, len(cache), len(cache.shards), readable_size(cache.num_bytes)
        )


def _run(cfg: CfgNode, plan: ShardPlan) -> None:
    if cfg.MODEL.DEVICE == "cpu":
        keep_freed_memory()
    run_teacher(cfg, plan)
