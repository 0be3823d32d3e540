"""Reading of the knowledge of training batches from the cache."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import ROI_HEADS_REGISTRY
from tqdm import tqdm

from mlickd.data.catalog import dataset_records
from mlickd.data.views import View
from mlickd.distillation.knowledge import RegionKnowledge, TeacherKnowledge
from mlickd.distillation.request import KnowledgeRequest
from mlickd.distillation.teacher_config import load_teacher_configs
from mlickd.errors import InputError
from mlickd.tensor_shards import Shard, find_shards

from .making import IMAGES_PER_SHARD, VIEWS
from .settings import cache_settings, check_settings, settings_of

__all__ = ["CachedKnowledge", "DatasetCache", "check_cache"]

logger = logging.getLogger(__name__)

_REMEDY = "make the knowledge cache with tools/cache_knowledge.py; if KD.CACHE holds another cache, use another folder"


class CachedKnowledge:
    """Reads the outputs of a teacher; called like a :class:`~mlickd.distillation.LiveTeacher`.

    Boxes are transformed into the view of each sample. For a crop, the teacher's outputs for the whole image are used:
    regions with less than 75 % in view are dropped (see :meth:`mlickd.data.View.regions`), and image scores and s' are
    computed from the other regions. A live teacher sees only the crop; without crops the two agree. For a mirrored
    view, the teacher's outputs for the mirrored image are used. If these are not stored, the maps of the image are
    flipped, which is inaccurate if the network pads one side more than the other, like TensorFlow's SAME: the cells of
    a mirrored image then differ from the mirrored cells of the image.

    Samples need ``dataset``, ``image_id`` and ``view``; see :class:`mlickd.data.MultiLabelMapper`.
    """

    def __init__(
        self,
        cfg: CfgNode,
        request: KnowledgeRequest | None = None,
        teachers: Mapping[str, CfgNode] | None = None,
    ):
        """Open the caches of ``DATASETS.TRAIN`` and ``DATASETS.UNLABELED`` in ``KD.CACHE``.

        Args:
            cfg: configuration of the distillation.
            request: knowledge that the caches must hold in addition to image scores; by default that of the stage.
            teachers: the teacher's configuration by dataset, see :func:`load_teacher_configs`; None loads them.

        Raises:
            InputError: a cache is missing, incomplete or damaged, or its settings differ from the run's; or the
                teachers of two datasets have different configurations.
        """
        request = KnowledgeRequest.from_stage(cfg) if request is None else request
        teachers = load_teacher_configs(cfg) if teachers is None else teachers
        self.temperature = cfg.KD.PREDICTION.TEACHER_TEMPERATURE
        self.normalize_weight = cfg.KD.REGIONS.NORMALIZE_WEIGHT
        heads = ROI_HEADS_REGISTRY.get(next(iter(teachers.values())).MODEL.ROI_HEADS.NAME)
        self.weights_from_scores = cfg.KD.REGIONS.WEIGHT == "teacher" and heads.scores_from_streams
        self.caches = {name: DatasetCache(cfg, teacher, name, request) for name, teacher in teachers.items()}
        # The student compares its features with those of all teachers.
        first = next(iter(self.caches.values()))
        common = {key: value for key, value in first.settings.items() if key.startswith("teacher.")}
        for cache in self.caches.values():
            check_settings(cache.settings, common, cache.folder, f"train this teacher like the one of {first.folder}")
        logger.info("Teacher: its knowledge in %s", cfg.KD.CACHE)

    def __call__(self, batched_inputs: Sequence[dict]) -> list[TeacherKnowledge]:
        """Return the knowledge of each sample, in main memory; see :class:`TeacherKnowledge`."""
        return [self._read(sample["dataset"], sample["image_id"], sample["view"]) for sample in batched_inputs]

    def _read(self, dataset: str, image_id: object, view: View) -> TeacherKnowledge:
        boxes, image_size, known = self.caches[dataset].read(image_id, mirror=view.mirror)
        moved, in_view = view.regions(boxes, *image_size)
        if view.crop is not None:
            known = known.restrict(
                torch.from_numpy(in_view),
                weights_from_scores=self.weights_from_scores,
                normalize_weight=self.normalize_weight,
            )
            known = known.crop_maps(_part_in_view(view, *image_size))
        return known.as_knowledge(torch.from_numpy(moved), self.temperature)


class DatasetCache:
    """The knowledge of all images of a dataset.

    Attributes:
        folder: folder of the shards.
        settings: settings that the cache was made with.
    """

    def __init__(self, cfg: CfgNode, teacher_cfg: CfgNode, dataset: str, request: KnowledgeRequest):
        """Open the cache of a dataset; arguments and errors are those of :class:`CachedKnowledge`."""
        records = dataset_records(dataset, boxes=False)
        expected = cache_settings(cfg, teacher_cfg, dataset, records, request)
        self.folder = Path(cfg.KD.CACHE) / dataset
        self.shards = [Shard(path, _REMEDY) for path in find_shards(self.folder, _REMEDY)]
        ids = sorted(str(record["image_id"]) for record in records)
        for index, shard in enumerate(self.shards):
            # Metadata are read from another Shard, so that they do not stay in memory.
            found = Shard(shard.path, _REMEDY).metadata
            shard_ids = {"ids": ids[index * IMAGES_PER_SHARD : (index + 1) * IMAGES_PER_SHARD]}
            check_settings(found, expected | shard_ids, shard.path, f"change the run back, or {_REMEDY}")
            if index == 0:  # all shards have the same settings
                self.settings = expected = settings_of(found)
        self.request = request
        self._positions = {image_id: position for position, image_id in enumerate(ids)}

    def __len__(self) -> int:
        return len(self._positions)

    def read(self, image_id: object, *, mirror: bool) -> tuple[np.ndarray, tuple[int, int], RegionKnowledge]:
        """Read the knowledge of one image.

        Args:
            image_id: id of the image in the dataset.
            mirror: whether to read the knowledge of the mirrored image; if it is not stored, the maps are flipped.

        Returns:
            (R, 4) float32 boxes in pixels of the image, its height and width, and the teacher's outputs.

        Raises:
            InputError: the shard of the image is damaged.
        """
        index, image = divmod(self._positions[str(image_id)], IMAGES_PER_SHARD)
        shard = self.shards[index]
        try:
            stored = mirror and self.settings["mirrored"]
            known = self._read_view(shard, VIEWS[stored], image)
            height, width = shard.tensor("image_sizes")[image].tolist()
            boxes = shard.tensor("boxes")[_rows(shard, "region_offsets", image)].copy()
        except (LookupError, TypeError, ValueError) as error:
            raise InputError(f"{shard.path}: is damaged at image {image_id}; {_REMEDY}") from error
        return boxes, (height, width), known.mirror() if mirror and not stored else known

    def _read_view(self, shard: Shard, view: str, image: int) -> RegionKnowledge:
        def read(name: str, rows: slice | int) -> torch.Tensor:
            return torch.from_numpy(np.array(shard.tensor(f"{view}.{name}")[rows]))

        regions = _rows(shard, "region_offsets", image)
        known = RegionKnowledge(read("class_logits", regions).float(), read("detection_logits", regions).float())
        if self.request.region_layers:
            rows = _rows(shard, f"{view}.selected_offsets", image)
            known.selected, known.weights = read("selected", rows).long(), read("weights", rows)
            if self.settings[f"features.{self.request.region_layers[0]}"] == "box_head":
                known.proposal_weights = read("proposal_weights", rows)
            for layer in self.request.region_layers:
                known.features[layer] = read(f"features.{layer}", rows)
                known.map_sizes[layer] = tuple(shard.tensor(f"map_sizes.{layer}")[image].tolist())
        for kind, layer in self.request.maps:
            known.maps[kind, layer] = read(f"maps.{kind}.{layer}", image)
        return known


def check_cache(cfg: CfgNode, request: KnowledgeRequest) -> None:
    """Open the caches as training does, and read all of their tensors.

    Raises:
        InputError: a cache is incomplete or damaged, or does not fit the run.
    """
    for name, cache in CachedKnowledge(cfg, request).caches.items():
        for shard in tqdm(cache.shards, desc=name, unit="shard"):
            # Another Shard, because mapped memory counts as used until the shard is closed.
            Shard(shard.path, _REMEDY).check_digest()
        size = tqdm.format_sizeof(sum(shard.path.stat().st_size for shard in cache.shards), "B")
        logger.info("%s: %d images in %d shards, %s", name, len(cache), len(cache.shards), size)


def _rows(shard: Shard, offsets: str, image: int) -> slice:
    return slice(*shard.tensor(offsets)[image : image + 2].tolist())


def _part_in_view(view: View, height: int, width: int) -> tuple[float, float, float, float]:
    """Return x0, y0, x1, y1 of the part of an image in view, as fractions of the image, mirrored like the view."""
    x0, y0, x1, y1 = view.crop_in_pixels(height, width)
    if view.mirror:
        x0, x1 = width - x1, width - x0
    return x0 / width, y0 / height, x1 / width, y1 / height
