"""Data loaders from a configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial

from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm
from torch import nn
from torch.utils.data import DataLoader

from mlickd.errors import InputError

from .catalog import dataset_records
from .colors import ColorJitter
from .corruptions import Corruption
from .crops import RandomCrop
from .mapper import MultiLabelMapper, MultiScaleMapper
from .packed_batch import PackedBatch
from .parts import whole_name
from .proposals.maker import ProposalMaker, maker_for
from .proposals.store import ProposalStore, proposals_path
from .records import LABEL_FIELDS
from .sampling import TrainingBatchSampler, TrainingSamples
from .views import View
from .workers import ignore_signals_in_worker

__all__ = [
    "build_inference_mapper",
    "build_multi_scale_loader",
    "build_teacher_mapper",
    "build_test_loader",
    "build_test_mapper",
    "build_train_loader",
    "corruption_of",
    "labeled_share",
    "model_class",
    "needs_knowledge",
    "needs_proposals",
    "open_proposals",
    "proposals_exist",
    "training_datasets",
]


def model_class(cfg: CfgNode) -> type[nn.Module]:
    """Return the class that ``MODEL.META_ARCHITECTURE`` names, see :class:`mlickd.modeling.meta_arch.ImageModel`.

    Raises:
        InputError: no such class is registered, or it is one of Detectron2's, which do not classify images.
    """
    classes = {name: kind for name, kind in META_ARCH_REGISTRY if hasattr(kind, "student_architecture")}
    name = cfg.MODEL.META_ARCHITECTURE
    if name not in classes:
        raise InputError(f"MODEL.META_ARCHITECTURE {name!r} is none of {', '.join(sorted(classes))}; give one of them")
    return classes[name]


def training_datasets(cfg: CfgNode) -> tuple[str, ...]:
    """The datasets that a run trains on, with labels and without, in the order of its loader."""
    return (*cfg.DATASETS.TRAIN, *cfg.DATASETS.UNLABELED)


def labeled_share(cfg: CfgNode) -> float:
    """How many of the training images have labels that are read, of all; above 0."""
    if not cfg.DATASETS.UNLABELED:
        return 1.0
    labeled = sum(len(dataset_records(name, boxes=False)) for name in cfg.DATASETS.TRAIN)
    return labeled / sum(len(dataset_records(name, boxes=False)) for name in training_datasets(cfg))


def needs_knowledge(cfg: CfgNode) -> bool:
    """Whether the stage of a distillation learns from a teacher at all, and not from labels alone."""
    return cfg.KD.STAGE != "prediction" or cfg.KD.PREDICTION.FEATURE_LOSS or cfg.KD.PREDICTION.WEIGHT > 0


def needs_proposals(cfg: CfgNode, *, training: bool) -> bool:
    """Return whether the model takes proposals: a teacher always, a student in training with a live teacher."""
    kind = model_class(cfg)
    if kind.student_architecture:
        return training and not cfg.KD.CACHE and needs_knowledge(cfg)
    return kind.is_detector


def open_proposals(cfg: CfgNode, name: str) -> ProposalStore:
    """The proposals of the dataset ``name``: the file that the configuration gives, or that its method names.

    Raises:
        InputError: the store is missing or damaged.
    """
    for names, files, key in (
        (cfg.DATASETS.TRAIN, cfg.DATASETS.PROPOSALS.TRAIN_FILES, "TRAIN"),
        (cfg.DATASETS.UNLABELED, cfg.DATASETS.PROPOSALS.UNLABELED_FILES, "UNLABELED"),
        (cfg.DATASETS.TEST, cfg.DATASETS.PROPOSALS.TEST_FILES, "TEST"),
    ):
        if files and len(files) != len(names):
            raise InputError(
                f"DATASETS.PROPOSALS.{key}_FILES {tuple(files)}: DATASETS.{key} has {len(names)}; give one for each"
            )
        if files and name in names:
            return ProposalStore.open(files[list(names).index(name)])
    path = proposals_path(name, cfg.DATASETS.PROPOSALS.METHOD)
    if not path.exists():
        raise InputError(
            f"{path}: no proposals for dataset {name}; make them with `python tools/generate_proposals.py "
            f"--dataset {whole_name(name)} --method {cfg.DATASETS.PROPOSALS.METHOD}`"
        )
    return ProposalStore.open(path)


def proposals_exist(cfg: CfgNode, name: str) -> bool:
    """Whether `open_proposals` has a file to open."""
    pairs = [
        *zip(cfg.DATASETS.TRAIN, cfg.DATASETS.PROPOSALS.TRAIN_FILES, strict=False),
        *zip(cfg.DATASETS.UNLABELED, cfg.DATASETS.PROPOSALS.UNLABELED_FILES, strict=False),
        *zip(cfg.DATASETS.TEST, cfg.DATASETS.PROPOSALS.TEST_FILES, strict=False),
    ]
    return os.path.exists(dict(reversed(pairs)).get(name) or proposals_path(name, cfg.DATASETS.PROPOSALS.METHOD))


def _training_mapper(cfg: CfgNode, name: str, teacher_cfg: CfgNode | None) -> MultiLabelMapper:
    proposals = open_proposals(cfg, name) if needs_proposals(cfg, training=True) else None
    return _mapper_with(cfg, proposals, teacher_cfg, name)


def _mapper_with(
    cfg: CfgNode,
    proposals: ProposalStore | ProposalMaker | None,
    teacher_cfg: CfgNode | None = None,
    name: str | None = None,
    corruption: Corruption | None = None,
) -> MultiLabelMapper:
    # A live teacher sees as many proposals as it was trained on: its scores sum over them.
    selection = (teacher_cfg or cfg).DATASETS.PROPOSALS
    return MultiLabelMapper(
        image_format=cfg.INPUT.FORMAT,
        proposals=proposals,
        top_k=selection.TOP_K,
        min_side=selection.MIN_SIDE,
        teacher_size=teacher_cfg.INPUT.SIZE_TEST if teacher_cfg else None,
        teacher_format=teacher_cfg.INPUT.FORMAT if teacher_cfg else None,
        dataset=name,
        corruption=corruption,
    )


def build_teacher_mapper(teacher_cfg: CfgNode, name: str, proposals: ProposalStore) -> MultiLabelMapper:
    """What a teacher sees of the dataset ``name`` where no student is there: ``image`` and ``proposals``."""
    return _mapper_with(teacher_cfg, proposals, name=name)


def build_test_mapper(cfg: CfgNode, name: str) -> Callable[[dict], dict]:
    """From a record of the dataset ``name`` to what the model takes at inference, damaged by ``TEST.CORRUPTION``."""
    return partial(_test_mapper(cfg, name), view=View(cfg.INPUT.SIZE_TEST))


def _test_mapper(cfg: CfgNode, name: str) -> MultiLabelMapper:
    proposals = open_proposals(cfg, name) if needs_proposals(cfg, training=False) else None
    return _mapper_with(cfg, proposals, name=name, corruption=corruption_of(cfg))


def corruption_of(cfg: CfgNode) -> Corruption | None:
    """The damage that ``TEST.CORRUPTION`` names; None without.

    Raises:
        InputError: it names none that there is.
    """
    return Corruption.parse(cfg.TEST.CORRUPTION, cfg.TEST.CORRUPTION_SEED) if cfg.TEST.CORRUPTION else None


def build_inference_mapper(cfg: CfgNode, name: str | None = None) -> Callable[[dict], dict]:
    """As `build_test_mapper`, but proposals that nobody has made yet are made on the fly, and nothing is damaged.

    Args:
        cfg: of the model.
        name: dataset of the records; None for photos of no dataset.
    """
    proposals = None
    if needs_proposals(cfg, training=False):
        known = name is not None and (
            name in cfg.DATASETS.TRAIN
            and cfg.DATASETS.PROPOSALS.TRAIN_FILES
            or name in cfg.DATASETS.TEST
            and cfg.DATASETS.PROPOSALS.TEST_FILES
            or proposals_path(name, cfg.DATASETS.PROPOSALS.METHOD).exists()
        )
        proposals = open_proposals(cfg, name) if known else maker_for(cfg)
    return partial(_mapper_with(cfg, proposals, name=name), view=View(cfg.INPUT.SIZE_TEST))


def build_train_loader(cfg: CfgNode, teacher_cfg: CfgNode | None = None) -> DataLoader:
    """An endless loader of the training datasets; batches are lists of samples.

    Samples of ``DATASETS.UNLABELED`` have no ``labels``, whatever their records say.

    Args:
        cfg: ``SOLVER.IMS_PER_BATCH`` is over all processes.
        teacher_cfg: of a live teacher, for whose view the samples then have an image and proposals.
    """
    dataset = TrainingSamples(
        [(_training_records(cfg, name), _training_mapper(cfg, name, teacher_cfg)) for name in training_datasets(cfg)]
    )
    jitter = cfg.INPUT.COLOR_JITTER
    strengths = jitter.BRIGHTNESS, jitter.CONTRAST, jitter.SATURATION
    sampler = TrainingBatchSampler(
        len(dataset),
        cfg.SOLVER.IMS_PER_BATCH,
        cfg.INPUT.SIZES_TRAIN,
        seed=max(cfg.SEED, 0),
        mirror=cfg.INPUT.RANDOM_FLIP == "horizontal",
        crop=RandomCrop(cfg.INPUT.RANDOM_CROP.AREA, cfg.INPUT.RANDOM_CROP.ASPECT)
        if cfg.INPUT.RANDOM_CROP.ENABLED
        else None,
        color_jitter=ColorJitter(*strengths) if any(strengths) else None,
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
    )
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=PackedBatch,
        worker_init_fn=ignore_signals_in_worker,
        pin_memory=cfg.MODEL.DEVICE.startswith("cuda"),
    )


def _training_records(cfg: CfgNode, name: str) -> list[dict]:
    records = dataset_records(name, boxes=False)
    if name in cfg.DATASETS.TRAIN:
        return records
    return [{key: value for key, value in record.items() if key not in LABEL_FIELDS} for record in records]


def build_test_loader(cfg: CfgNode, name: str, records: Sequence[dict] | None = None) -> DataLoader:
    """Detectron2's test loader of one dataset: every image once, at ``INPUT.SIZE_TEST``.

    Args:
        cfg: of the model.
        name: of the dataset.
        records: some of its records; None for all of them.
    """
    records = dataset_records(name, boxes=False) if records is None else records
    return _loader_for_evaluation(cfg, records, build_test_mapper(cfg, name))


def build_multi_scale_loader(cfg: CfgNode, name: str) -> DataLoader:
    """As `build_test_loader`, with every image at each size of ``TEST.AUG``; see `MultiScaleMapper`."""
    sizes = cfg.TEST.AUG.MIN_SIZES or (cfg.INPUT.SIZE_TEST,)
    mapper = MultiScaleMapper(_test_mapper(cfg, name), sizes)
    return _loader_for_evaluation(cfg, dataset_records(name, boxes=False), mapper)


def _loader_for_evaluation(cfg: CfgNode, records: Sequence[dict], mapper: Callable[[dict], dict]) -> DataLoader:
    loader = build_detection_test_loader(
        dataset=list(records),
        mapper=mapper,
        batch_size=cfg.TEST.IMS_PER_BATCH,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=PackedBatch,
    )
    loader.worker_init_fn = ignore_signals_in_worker
    return loader
