"""The knowledge of a training batch from the cache."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import ROI_HEADS_REGISTRY

from mlickd.data.build import training_datasets
from mlickd.data.catalog import dataset_records
from mlickd.data.views import View
from mlickd.distillation.knowledge import TeacherKnowledge
from mlickd.distillation.request import KnowledgeRequest
from mlickd.distillation.teacher import load_teacher_config
from mlickd.errors import InputError

from .header import describe_run, differences
from .reader import DatasetCache

__all__ = ["CachedKnowledge"]

logger = logging.getLogger(__name__)


class CachedKnowledge:
    """Reads what a :class:`~mlickd.distillation.LiveTeacher` would say; the same call.

    The boxes go through the view of each sample. Of a crop the teacher's word on the whole image is taken: regions of
    which too little is in view drop out (see :meth:`mlickd.data.View.regions`), and the image scores and s' are
    computed from the others. A live teacher sees the crop alone; the two agree where there is none. A mirrored view is
    what the teacher said of the mirrored image; where that is not stored, what it said of the image, with pooled maps
    flipped and vectors as they are. (That is coarse where the network pads one side more than the other, as SAME of
    TensorFlow does: the cells of a mirrored image are not the mirrored cells of the image.)

    Samples need ``dataset``, ``image_id`` and ``view``; see :class:`mlickd.data.MultiLabelMapper`.
    """

    def __init__(self, cfg: CfgNode, request: KnowledgeRequest | None = None):
        """Open the caches of ``DATASETS.TRAIN`` and ``DATASETS.UNLABELED`` below ``KD.CACHE``.

        Args:
            cfg: of the distillation.
            request: what they are to hold beside image scores; None: what the stage needs.

        Raises:
            InputError: one of them is missing, incomplete, damaged, or does not fit the run: says in what. Or the
                teachers of two datasets were trained with other configurations.
        """
        request = KnowledgeRequest.of_stage(cfg) if request is None else request
        self.temperature = cfg.KD.PREDICTION.TEACHER_TEMPERATURE
        heads = ROI_HEADS_REGISTRY.get(load_teacher_config(cfg).MODEL.ROI_HEADS.NAME)
        self.restriction = {
            "weights_of_streams": cfg.KD.REGIONS.WEIGHT == "teacher" and heads.scores_from_streams,
            "normalize": cfg.KD.REGIONS.NORMALIZE_WEIGHT,
        }
        self.caches: dict[str, DatasetCache] = {}
        descriptions: dict[str, dict] = {}
        for name in training_datasets(cfg):
            records = dataset_records(name, boxes=False)
            descriptions[name] = describe_run(cfg, name, records, request)
            cache = DatasetCache(cfg.KD.CACHE, name, descriptions[name])
            for record in records:
                if record["image_id"] not in cache:
                    raise InputError(
                        f"{cfg.KD.CACHE}: holds nothing for image {record['image_id']} of {name}; make the cache again "
                        "in another folder"
                    )
            self.caches[name] = cache
        _check_same_kind(descriptions)
        logger.info("Teacher: its knowledge in %s", cfg.KD.CACHE)

    def __call__(self, batched_inputs: Sequence[dict]) -> list[TeacherKnowledge]:
        """Knowledge of each sample, in main memory; see :class:`TeacherKnowledge`."""
        return [self._of_sample(sample) for sample in batched_inputs]

    def _of_sample(self, sample: dict) -> TeacherKnowledge:
        view = sample["view"]
        boxes, image_size, known = self.caches[sample["dataset"]].read(sample["image_id"], mirror=view.mirror)
        moved, in_view = view.regions(boxes, *image_size)
        if view.crop is not None:
            known = known.restricted(torch.from_numpy(in_view), **self.restriction)
            known = known.with_maps_of(_part_in_view(view, *image_size))
        return known.as_knowledge(torch.from_numpy(moved), self.temperature)


def _check_same_kind(descriptions: Mapping[str, Mapping[str, Any]]) -> None:
    """Teachers of several datasets must be of one kind: a student compares its features with those of all of them."""
    first, *others = descriptions
    for name in others:
        found, expected = ({"teacher_config": descriptions[of]["teacher_config"]} for of in (name, first))
        changed = differences(found, expected)
        if changed:
            raise InputError(
                f"KD.TEACHER.WEIGHTS: the teacher of {name} has {changed} of the teacher of {first}; train both with "
                "one configuration"
            )


def _part_in_view(view: View, height: int, width: int) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of the part of an image that a view shows, as fractions of the image, mirrored as the view is."""
    x0, y0, x1, y1 = view.crop_in_pixels(height, width)
    if view.mirror:
        x0, x1 = width - x1, width - x0
    return x0 / width, y0 / height, x1 / width, y1 / height
