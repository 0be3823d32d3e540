"""The teacher run once on every image of a dataset."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data.build import trivial_batch_collator
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mlickd.data.build import build_mapper, open_proposals
from mlickd.data.catalog import dataset_records
from mlickd.data.mapper import MultiLabelMapper, best_proposals
from mlickd.data.proposals.generation import shard_records
from mlickd.data.proposals.store import ProposalStore
from mlickd.data.views import View
from mlickd.distillation.request import KnowledgeRequest
from mlickd.distillation.teacher import FrozenTeacher, load_teacher_config
from mlickd.distillation.teacher_files import with_teacher_of

from .header import describe_run, shard_header
from .layout import array_path, shard_folder
from .writer import ShardWriter, prepare_shard, unfinished_images, writable

__all__ = ["ShardPlan", "plan_shard", "run_teacher"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShardPlan:
    """What is left to do of one shard; small, for it is handed to every process.

    Attributes:
        dataset: name of the dataset.
        shard: number, from 1, and count.
        folder: of the shard.
        header: of the shard.
        request: what the teacher is to say beside the logits of all regions.
        num_images: in the shard.
        batches: numbers of the images that the teacher is to see together.
    """

    dataset: str
    shard: tuple[int, int]
    folder: Path
    header: dict[str, Any]
    request: KnowledgeRequest
    num_images: int
    batches: list[list[int]]


def plan_shard(
    cfg: CfgNode,
    dataset: str,
    shard: tuple[int, int],
    request: KnowledgeRequest,
    *,
    mirrored: bool,
    batch_size: int,
) -> ShardPlan:
    """Make room for a shard, or find what is left to do of it; :func:`shard_lock` of its folder is held.

    Batches are always the same images, so that a shard that was interrupted ends with the bytes of one that was not.

    Raises:
        InputError: the folder holds another shard, the disk has too little room or cannot be written.
    """
    cfg = with_teacher_of(cfg, dataset)
    all_records = dataset_records(dataset, boxes=False)
    description = describe_run(cfg, dataset, all_records, request)
    header = shard_header(description, shard, mirrored=mirrored, batch_size=batch_size)
    records = shard_records(all_records, *shard)
    folder = shard_folder(cfg.KD.CACHE, dataset, shard)
    store, teacher_cfg = open_proposals(cfg, dataset), load_teacher_config(cfg)
    with writable(folder):
        prepare_shard(
            folder,
            header,
            [str(record["image_id"]) for record in records],
            [len(_boxes(store, record, teacher_cfg)) for record in records],
            (_boxes(store, record, teacher_cfg) for record in records),
        )
    unfinished = set(unfinished_images(folder, len(records)))
    batches = [list(range(i, min(i + batch_size, len(records)))) for i in range(0, len(records), batch_size)]
    batches = [batch for batch in batches if not unfinished.isdisjoint(batch)]
    if len(unfinished) < len(records):
        logger.info("%s: %d of %d images were done before", folder, len(records) - len(unfinished), len(records))
    return ShardPlan(dataset, shard, folder, header, request, len(records), batches)


def run_teacher(cfg: CfgNode, plan: ShardPlan) -> None:
    """Do this process's share of what is left of a shard.

    Raises:
        InputError: the teacher or an image cannot be read, or the disk is full.
    """
    batches = plan.batches[comm.get_rank() :: comm.get_world_size()]
    if not batches:
        return
    cfg = with_teacher_of(cfg, plan.dataset)
    teacher_cfg = load_teacher_config(cfg)
    teacher = FrozenTeacher(cfg, plan.request)
    mirrors = (False, True) if plan.header["mirrored"] else (False,)
    records = shard_records(dataset_records(plan.dataset, boxes=False), *plan.shard)
    mapper = build_mapper(teacher_cfg, plan.dataset, open_proposals(cfg, plan.dataset))
    loader = DataLoader(
        _TeacherViews(records, mapper, [View(teacher_cfg.INPUT.SIZE_TEST, mirror) for mirror in mirrors]),
        batch_sampler=batches,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=trivial_batch_collator,
    )
    offsets = np.load(array_path(plan.folder, "region_offsets"), allow_pickle=False)
    progress = tqdm(
        total=sum(map(len, batches)), desc=plan.dataset, unit="image", mininterval=1.0,
        disable=not comm.is_main_process(),
    )  # fmt: skip
    with writable(plan.folder), progress, ShardWriter(plan.folder, plan.header, offsets) as writer:
        for images, samples in zip(batches, loader, strict=True):
            views = [
                teacher([s["image"] for s in of_view], [s["proposals"] for s in of_view])
                for of_view in zip(*samples, strict=True)
            ]
            for image, of_views, known in zip(images, samples, zip(*views, strict=True), strict=True):
                size = of_views[0]["height"], of_views[0]["width"]
                writer.write(image, of_views[0]["image_id"], size, known)
            writer.finish(images)
            progress.update(len(images))


class _TeacherViews(Dataset):
    """Item i is image i as the teacher sees it, in each of its views; `height` and `width` are the file's own.

    A record may have others, of a photo before it is turned as its EXIF orientation says. Its boxes go through the
    file's size where the teacher is run live, and so they must here.
    """

    def __init__(self, records: Sequence[dict], mapper: MultiLabelMapper, views: Sequence[View]):
        self.records = [{k: v for k, v in record.items() if k not in ("height", "width")} for record in records]
        self.mapper, self.views = mapper, views

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> list[dict]:
        return [self.mapper(self.records[index], view) for view in self.views]


def _boxes(store: ProposalStore, record: dict, teacher_cfg: CfgNode) -> np.ndarray:
    """The regions of an image that the teacher sees, in the image's pixels."""
    selection = teacher_cfg.DATASETS.PROPOSALS
    return best_proposals(*store[record["image_id"]], selection.TOP_K, selection.MIN_SIDE)[0]
