"""Mappers and data loaders from a configuration."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm
from torch import nn
from torch.utils.data import DataLoader

from mlickd.errors import InputError

from .catalog import dataset_records
from .mapper import MultiLabelMapper, map_at_sizes
from .parts import whole_name
from .proposals.image_proposals import complete_parameters, propose
from .proposals.proposal_methods import PROPOSAL_METHODS
from .proposals.store import ProposalStore, proposals_path
from .sampling import RandomCrop, TrainingBatchSampler, TrainingSamples
from .views import View
from .workers import pack_batch, set_up_worker

logger = logging.getLogger(__name__)


def model_class(cfg: CfgNode) -> type[nn.Module]:
    """Return the class named by ``MODEL.META_ARCHITECTURE``, see :class:`mlickd.modeling.meta_arch.ImageModel`.

    Raises:
        InputError: the class is not registered, or is a class of Detectron2, which does not classify images.
    """
    classes = {name: kind for name, kind in META_ARCH_REGISTRY if hasattr(kind, "student_architecture")}
    name = cfg.MODEL.META_ARCHITECTURE
    if name not in classes:
        raise InputError(f"MODEL.META_ARCHITECTURE {name!r} must be one of {', '.join(sorted(classes))}")
    return classes[name]


def training_datasets(cfg: CfgNode) -> tuple[str, ...]:
    """Return the labeled and the unlabeled training datasets, in the order of the training loader."""
    return (*cfg.DATASETS.TRAIN, *cfg.DATASETS.UNLABELED)


def count_training_images(cfg: CfgNode) -> int:
    """Return the number of labeled and unlabeled training images."""
    return sum(len(dataset_records(name, boxes=False)) for name in training_datasets(cfg))


def labeled_fraction(cfg: CfgNode) -> float:
    """Return the expected fraction of a batch that comes from ``DATASETS.TRAIN``; above 0."""
    if not cfg.DATASETS.UNLABELED:
        return 1.0
    if count := _unlabeled_per_batch(cfg):
        return 1 - count / cfg.SOLVER.IMS_PER_BATCH
    counts = [len(dataset_records(name, boxes=False)) for name in training_datasets(cfg)]
    return sum(counts[: len(cfg.DATASETS.TRAIN)]) / sum(counts)


def _unlabeled_per_batch(cfg: CfgNode) -> int:
    """Return the fixed number of unlabeled images in a batch; 0 if it varies."""
    if not cfg.DATASETS.UNLABELED or cfg.DATASETS.UNLABELED_SHARE == 0:
        return 0
    batch = cfg.SOLVER.IMS_PER_BATCH
    return min(max(1, round(cfg.DATASETS.UNLABELED_SHARE * batch)), batch - 1)


def needs_knowledge(cfg: CfgNode) -> bool:
    """Return whether a run trains a student with the outputs of a teacher."""
    uses_teacher = cfg.KD.STAGE != "prediction" or cfg.KD.PREDICTION.FEATURE_LOSS or cfg.KD.PREDICTION.WEIGHT > 0
    return uses_teacher and bool(model_class(cfg).student_architecture)


def needs_proposals(cfg: CfgNode, *, training: bool) -> bool:
    """Return whether samples need proposals: for a detector, or in training for a teacher without a cache."""
    return model_class(cfg).is_detector or (training and not cfg.KD.CACHE and needs_knowledge(cfg))


def open_proposals(cfg: CfgNode, name: str) -> ProposalStore:
    """Open the proposals of a dataset, see :func:`configured_proposals`.

    Raises:
        InputError: the proposals are missing or corrupt.
    """
    path = configured_proposals(cfg, name)
    if not path.exists():
        raise InputError(
            f"{path}: no proposals for dataset {name}; make them with `mlickd generate-proposals "
            f"--dataset {whole_name(name)} --method {cfg.DATASETS.PROPOSALS.METHOD}`, or "
            "elsewhere with --output FOLDER, and name the folder in DATASETS.PROPOSALS.TRAIN_FILES, UNLABELED_FILES or "
            "TEST_FILES"
        )
    return ProposalStore(path)


def configured_proposals(cfg: CfgNode, name: str) -> Path:
    """Return the folder of the proposals of a dataset.

    It is the entry in ``DATASETS.PROPOSALS.*_FILES``, by default the folder of ``DATASETS.PROPOSALS.METHOD``.
    """
    for split in ("TRAIN", "UNLABELED", "TEST"):
        names, files = list(cfg.DATASETS[split]), cfg.DATASETS.PROPOSALS[f"{split}_FILES"]
        if files and len(files) != len(names):
            raise InputError(
                f"DATASETS.PROPOSALS.{split}_FILES {tuple(files)}: DATASETS.{split} has {len(names)}; give one for each"
            )
        if files and name in names:
            return Path(files[names.index(name)])
    return proposals_path(name, cfg.DATASETS.PROPOSALS.METHOD)


def build_proposer(cfg: CfgNode) -> partial:
    """Return :func:`propose` with the method and the parameters of the training proposals.

    They come from the first existing store of DATASETS.TRAIN. If no store exists, the function warns and uses
    DATASETS.PROPOSALS.METHOD with default parameters.

    Raises:
        InputError: the method of the stored proposals or a parameter is unknown.
    """
    method, parameters = cfg.DATASETS.PROPOSALS.METHOD, {}
    paths = [configured_proposals(cfg, name) for name in cfg.DATASETS.TRAIN]
    found = next((path for path in paths if path.exists()), None)
    if found is not None:
        header = ProposalStore(found).header
        method, parameters = header["method"], header["parameters"]
    else:
        text = "%s: not found; proposals of new photos use the defaults of %s, and training may have used other values"
        logger.warning(text, ", ".join(map(str, paths)), method)
    if method not in PROPOSAL_METHODS:
        names = ", ".join(name for name, _ in PROPOSAL_METHODS)
        raise InputError(
            f"{found or 'DATASETS.PROPOSALS.METHOD'}: the method {method} is not one of {names}, so it cannot run on "
            "new photos; make a dataset of these photos, and import their proposals"
        )
    logger.info("Generating proposals of new photos with %s", method)
    return partial(propose, method=method, parameters=complete_parameters(method, parameters))


def build_mapper(
    cfg: CfgNode,
    name: str | None = None,
    proposals: ProposalStore | Callable | None = None,
    teacher_cfg: CfgNode | None = None,
) -> MultiLabelMapper:
    """Return the :class:`MultiLabelMapper` of a model for the dataset ``name``, or for photos if it is None.

    If ``teacher_cfg``, the configuration of a live teacher, is given, samples also have its view and its proposals.
    """
    # The teacher needs the number of proposals that it was trained with, because its image scores sum over them.
    selection = (teacher_cfg or cfg).DATASETS.PROPOSALS
    return MultiLabelMapper(
        image_format=cfg.INPUT.FORMAT,
        proposals=proposals,
        top_k=selection.TOP_K,
        teacher_size=teacher_cfg.INPUT.SIZE_TEST if teacher_cfg else None,
        teacher_format=teacher_cfg.INPUT.FORMAT if teacher_cfg else None,
        dataset=name,
        view=View(cfg.INPUT.SIZE_TEST),
    )


def build_test_mapper(cfg: CfgNode, name: str | None = None, *, can_propose: bool = False) -> MultiLabelMapper:
    """Return the mapper of a model for the dataset ``name``, or for photos if it is None.

    With ``can_propose``, the mapper of a teacher generates proposals if none are stored.
    """
    proposals = None
    if needs_proposals(cfg, training=False):
        stored = name is not None and configured_proposals(cfg, name).exists()
        proposals = build_proposer(cfg) if can_propose and not stored else open_proposals(cfg, name)
    return build_mapper(cfg, name, proposals)


def build_train_loader(cfg: CfgNode, teacher_cfg: CfgNode | None = None) -> DataLoader:
    """Return an infinite data loader of the training datasets; each batch is a list of samples.

    Samples of ``DATASETS.UNLABELED`` do not have ``labels``, even if their records do.

    Args:
        cfg: configuration; ``SOLVER.IMS_PER_BATCH`` counts the images of all processes.
        teacher_cfg: see :func:`build_mapper`.
    """
    parts, num_unlabeled = [], 0
    for name in training_datasets(cfg):
        records = dataset_records(name, boxes=False)
        if name not in cfg.DATASETS.TRAIN:
            num_unlabeled += len(records)
            labels = "labels", "ignored_labels"
            records = [{key: record[key] for key in record if key not in labels} for record in records]
        proposals = open_proposals(cfg, name) if needs_proposals(cfg, training=True) else None
        parts.append((records, build_mapper(cfg, name, proposals, teacher_cfg)))
    dataset = TrainingSamples(parts)
    crop = cfg.INPUT.RANDOM_CROP
    sampler = TrainingBatchSampler(
        len(dataset),
        cfg.SOLVER.IMS_PER_BATCH,
        cfg.INPUT.SIZES_TRAIN,
        seed=max(cfg.SEED, 0),
        unlabeled=(num_unlabeled, _unlabeled_per_batch(cfg)),
        mirror=cfg.INPUT.RANDOM_FLIP == "horizontal",
        crop=RandomCrop(crop.AREA) if crop.ENABLED else None,
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
    )
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=pack_batch,
        worker_init_fn=set_up_worker,
        pin_memory=cfg.MODEL.DEVICE.startswith("cuda"),
    )


def build_test_loader(
    cfg: CfgNode, name: str, records: Sequence[dict] | None = None, *, multi_scale: bool = False
) -> DataLoader:
    """Return Detectron2's test loader of the dataset ``name``, by default with all of its records.

    With ``multi_scale``, each sample has the image at all sizes of ``TEST.AUG`` (see :func:`map_at_sizes`) instead of
    only ``INPUT.SIZE_TEST``.
    """
    mapper = build_test_mapper(cfg, name)
    if multi_scale:
        mapper = partial(map_at_sizes, mapper=mapper, sizes=cfg.TEST.AUG.MIN_SIZES or (cfg.INPUT.SIZE_TEST,))
    loader = build_detection_test_loader(
        dataset=dataset_records(name, boxes=False) if records is None else list(records),
        mapper=mapper,
        batch_size=cfg.TEST.IMS_PER_BATCH,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=pack_batch,
    )
    loader.worker_init_fn = set_up_worker
    return loader
