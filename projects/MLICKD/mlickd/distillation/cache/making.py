"""Run the teacher once on every training image and write its outputs."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MapDataset
from torch.utils.data import BatchSampler, DataLoader

from mlickd.data.build import build_mapper, open_proposals, training_datasets
from mlickd.data.catalog import dataset_records
from mlickd.data.mapper import MultiLabelMapper
from mlickd.data.views import View
from mlickd.data.workers import pack_batch, set_up_worker
from mlickd.distillation.knowledge import TeacherOutputs
from mlickd.distillation.knowledge_request import KnowledgeRequest
from mlickd.distillation.teacher import FrozenTeacher
from mlickd.distillation.teacher_config import check_teacher, load_teacher_config
from mlickd.errors import InputError
from mlickd.progress import progress
from mlickd.tensor_shards import Shard, ShardLayout, write_shard

from .settings import cache_settings, check_settings

logger = logging.getLogger(__name__)

IMAGES_PER_SHARD = 64
VIEWS = ("original", "mirrored")
_REMEDY = "free disk space, then give the same command again to continue; or choose another KD.CACHE, or --no-mirrored"


def make_cache(
    cfg: CfgNode,
    request: KnowledgeRequest | None = None,
    *,
    part: tuple[int, int] = (1, 1),
    mirrored: bool = True,
    batch_size: int = 4,
) -> None:
    """Write the shards of ``DATASETS.TRAIN`` and ``DATASETS.UNLABELED`` that ``KD.CACHE`` does not have yet.

    Parts and interruptions do not change the content.

    Args:
        cfg: completed configuration of the distillation.
        request: features and maps to store; None takes the request of all stages of the method.
        part: ``(i, n)`` writes the i-th of n parts of the shards, i from 1.
        mirrored: whether to also run the teacher on the mirrored images, if training mirrors (``INPUT.RANDOM_FLIP``
            ``horizontal``). Otherwise mirrored views use flipped features, which saves half of the time and disk space.
            Image scores with ``KD.TEACHER.FLIP`` are the same for the mirrored image, so they do not need it.
        batch_size: number of images in a batch of the teacher.

    Raises:
        InputError: images, proposals or teacher are missing or corrupt, the disk is full, or the folder contains
            another cache.
    """
    request = request or KnowledgeRequest.for_method(cfg)
    # The average of both views is the same for the mirrored image, except for features, which come from one view.
    mirrored &= not cfg.KD.TEACHER.FLIP or bool(request.region_layers or request.maps)
    kept = {"mirrored": mirrored and cfg.INPUT.RANDOM_FLIP == "horizontal", "batch_size": batch_size}
    teacher_cfg = load_teacher_config(cfg)
    check_teacher(cfg, teacher_cfg, request)
    settings = {}
    for name in training_datasets(cfg):
        records = dataset_records(name, boxes=False)
        open_proposals(cfg, name).check(records)
        settings[name] = cache_settings(cfg, teacher_cfg, name, records, request) | kept
    for name, expected in settings.items():
        _write_dataset(cfg, teacher_cfg, name, request, expected, part)


def _write_dataset(
    cfg: CfgNode, teacher_cfg: CfgNode, name: str, request: KnowledgeRequest, settings: dict, part: tuple[int, int]
) -> None:
    folder = Path(cfg.KD.CACHE) / name
    for path in folder.glob("*.safetensors"):
        found = Shard(path, "delete this file, and give the same command again").read_metadata().get("settings", {})
        # A cache with additional settings also differs.
        expected = dict.fromkeys(found, "missing") | settings
        check_settings(found, expected, path, "change the command, remove this folder, or choose another KD.CACHE")
    records = sorted(dataset_records(name, boxes=False), key=lambda record: str(record["image_id"]))
    layout = ShardLayout(len(records), IMAGES_PER_SHARD)
    # A batch has images of one shard only, because other images in a batch may change the last bit of the outputs.
    shards = {
        index: list(BatchSampler(layout.images(index), settings["batch_size"], drop_last=False))
        for index in layout.indices(part)
        if not layout.path(folder, index).is_file()
    }
    logger.info("%s: %d of %d shards to write in part %d of %d", folder, len(shards), len(layout), *part)
    if not shards:
        return
    teacher, store = FrozenTeacher(cfg, teacher_cfg, request), open_proposals(cfg, name)
    mirrors = (False, True) if settings["mirrored"] else (False,)
    views = [View(teacher_cfg.INPUT.SIZE_TEST, mirror) for mirror in mirrors]
    all_batches = list(chain(*shards.values()))
    loader = DataLoader(
        MapDataset(records, partial(_load_views, build_mapper(teacher_cfg, name, store), views)),
        batch_sampler=all_batches,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=pack_batch,
        worker_init_fn=set_up_worker,
    )
    batches = progress(loader, name, "batch", len(all_batches))
    for number, index in enumerate(shards, start=1):
        images = []
        for samples in islice(batches, len(shards[index])):
            images += _image_rows(teacher, teacher_cfg, samples, store)
        path = layout.path(folder, index)
        for unfinished in folder.glob(f"{path.name}.*.unfinished"):  # left by a killed process
            unfinished.unlink(missing_ok=True)
        ids = [str(records[image]["image_id"]) for image in layout.images(index)]
        write_shard(path, _concatenate(images), {"settings": settings, "ids": ids}, _REMEDY)
        needed, free = (len(shards) - number) * path.stat().st_size, shutil.disk_usage(folder).free
        if needed > free:  # the other shards have about the same size
            raise InputError(f"{folder}: needs {needed >> 20} MiB more, but has {free >> 20} MiB; {_REMEDY}")


def _load_views(mapper: MultiLabelMapper, views: Sequence[View], record: dict) -> list[dict]:
    """Return the teacher's sample of an image in each view, with ``height`` and ``width`` of the decoded image.

    For an image with an EXIF orientation, the record may have the size before rotation, but boxes must fit the size
    after rotation.
    """
    record = {key: value for key, value in record.items() if key not in ("height", "width")}
    return [mapper(record, view) for view in views]


def _image_rows(
    teacher: FrozenTeacher, teacher_cfg: CfgNode, samples: Sequence[list[dict]], store: Mapping
) -> list[dict[str, np.ndarray]]:
    """Return the rows of each image of a batch in the tensors of the shard."""
    views = [teacher([s["image"] for s in view], [s["proposals"] for s in view]) for view in zip(*samples, strict=True)]
    images = []
    for (sample, *_), *outputs in zip(samples, *views, strict=True):
        boxes = store[sample["image_id"]][0][: teacher_cfg.DATASETS.PROPOSALS.TOP_K]
        sizes = {f"map_sizes.{layer}": size for layer, size in outputs[0].map_sizes.items()}
        sizes["image_sizes"] = sample["height"], sample["width"]
        rows = {key: np.array([size], np.int32) for key, size in sizes.items()} | {"boxes": boxes}
        for view, output in zip(VIEWS, outputs, strict=False):
            rows |= {f"{view}.{name}": value for name, value in _view_rows(output, sample["image_id"]).items()}
        images.append(rows)
    return images


def _view_rows(outputs: TeacherOutputs, image_id: object) -> dict[str, np.ndarray]:
    """Return the rows of one view of an image, which must be finite in 16 bits."""
    half = {f"features.{layer}": features for layer, features in outputs.features.items()}
    half |= {f"maps.{kind}.{layer}": whole[None] for (kind, layer), whole in outputs.maps.items()}
    if outputs.context_map is not None:
        half["context_map"] = outputs.context_map[None]
    for name, axis in (("class_logits", 1), ("detection_logits", 0)):
        half[name] = getattr(outputs, name)
        if len(half[name]) > 0:
            # Logits far below the largest logit have probability 0 in any precision.
            shifted = half[name] - half[name].amax(dim=axis, keepdim=True)
            half[name] = shifted.clamp(min=torch.finfo(torch.float16).min)
    rows = {name: values.half() for name, values in half.items()}
    for name, values in rows.items():
        if not torch.isfinite(values).all():
            raise InputError(
                f"KD.TEACHER.WEIGHTS: {name} of image {image_id} is not finite in 16 bits; train the teacher with a "
                "lower learning rate, or leave KD.CACHE empty"
            )
    if outputs.selected is not None:
        rows |= {"selected": outputs.selected.int(), "region_weights": outputs.region_weights}
        if outputs.proposal_weights is not None:
            rows["proposal_weights"] = outputs.proposal_weights
    return {name: values.cpu().numpy() for name, values in rows.items()}


def _concatenate(images: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the tensors of a shard from the rows of its images. This empties ``images`` to save memory."""
    tensors = {}
    for rows, offsets in (("boxes", "region_offsets"), *((f"{v}.selected", f"{v}.selected_offsets") for v in VIEWS)):
        if rows in images[0]:
            tensors[offsets] = np.cumsum([0, *(len(image[rows]) for image in images)])
    return tensors | {name: np.concatenate([image.pop(name) for image in images]) for name in list(images[0])}
