"""A source of knowledge that reads the teacher's outputs from the cache."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import ROI_HEADS_REGISTRY
from safetensors import safe_open
from tqdm import tqdm

from mlickd.data.build import training_datasets
from mlickd.data.catalog import dataset_records
from mlickd.data.views import View
from mlickd.distillation.knowledge import TeacherKnowledge, TeacherOutputs
from mlickd.distillation.knowledge_request import KnowledgeRequest
from mlickd.distillation.teacher_config import load_teacher_config
from mlickd.progress import progress
from mlickd.tensor_shards import Shard, find_shards, read_rows

from .making import IMAGES_PER_SHARD, VIEWS
from .settings import cache_settings, check_settings

logger = logging.getLogger(__name__)

_REMEDY = "make the knowledge cache with `mlickd cache-knowledge`; if KD.CACHE holds another cache, use another folder"


class CachedKnowledge:
    """A source of knowledge that reads the teacher's outputs from ``KD.CACHE``.

    The cache contains outputs for whole images. For a crop, regions with less than 75 % in view are dropped (see
    :meth:`mlickd.data.View.regions`), and image scores and s' are computed from the other regions. A live teacher sees
    only the crop instead; without crops, both sources give the same knowledge. For a mirrored view, the outputs for the
    mirrored image are used. If the cache does not have them, the maps of the image are flipped. This is inaccurate if
    the network pads one side more than the other, like TensorFlow's SAME padding.

    Samples need ``dataset``, ``image_id`` and ``view``; see :class:`mlickd.data.MultiLabelMapper`.
    """

    def __init__(self, cfg: CfgNode, request: KnowledgeRequest | None = None):
        """Open the caches of ``DATASETS.TRAIN`` and ``DATASETS.UNLABELED`` in ``KD.CACHE``.

        Args:
            cfg: configuration of the distillation.
            request: features and maps to read; None takes the request of the stage.

        Raises:
            InputError: a cache is missing, incomplete or corrupt, or its settings differ from the settings of the run.
        """
        request = request or KnowledgeRequest.for_stage(cfg)
        teacher_cfg = load_teacher_config(cfg)
        self.temperature = cfg.KD.PREDICTION.TEACHER_TEMPERATURE
        heads = ROI_HEADS_REGISTRY.get(teacher_cfg.MODEL.ROI_HEADS.NAME)
        self.weights_from_scores = cfg.KD.REGIONS.WEIGHT == "teacher" and heads.scores_from_streams
        self.caches = {name: DatasetCache(cfg, teacher_cfg, name, request) for name in training_datasets(cfg)}

    def __call__(self, batched_inputs: Sequence[dict]) -> list[TeacherKnowledge]:
        """Return the knowledge of each sample, in main memory."""
        return [self._read(sample["dataset"], sample["image_id"], sample["view"]) for sample in batched_inputs]

    def _read(self, dataset: str, image_id: object, view: View) -> TeacherKnowledge:
        boxes, (height, width), outputs = self.caches[dataset].read(image_id, mirror=view.mirror)
        moved, in_view = view.regions(boxes, height, width)
        if view.crop is not None:
            outputs = outputs.keep_regions(torch.from_numpy(in_view), weights_from_scores=self.weights_from_scores)
            x0, y0, x1, y1 = view.crop_in_pixels(height, width)
            if view.mirror:
                x0, x1 = width - x1, width - x0
            outputs = outputs.crop_maps((x0 / width, y0 / height, x1 / width, y1 / height))
        return outputs.to_knowledge(torch.from_numpy(moved), self.temperature)


class DatasetCache:
    """The teacher's outputs for all images of a dataset.

    Attributes:
        shards: the shards, in the order of the image ids as text.
        settings: settings that the cache was made with.
    """

    def __init__(self, cfg: CfgNode, teacher_cfg: CfgNode, dataset: str, request: KnowledgeRequest):
        """Open the cache of a dataset; see :class:`CachedKnowledge` for the arguments and errors."""
        records = dataset_records(dataset, boxes=False)
        expected = cache_settings(cfg, teacher_cfg, dataset, records, request)
        paths = find_shards(Path(cfg.KD.CACHE) / dataset, _REMEDY)
        self.shards = [Shard(path, "delete this file, and give `mlickd cache-knowledge` again") for path in paths]
        ids = sorted(str(record["image_id"]) for record in records)
        for index, shard in enumerate(self.shards):
            metadata = shard.read_metadata()
            found = metadata.get("settings", {})
            shard_ids = ids[index * IMAGES_PER_SHARD : (index + 1) * IMAGES_PER_SHARD]
            remedy = f"use the settings of the cache, or {_REMEDY}"
            check_settings(found | {"ids": metadata.get("ids")}, expected | {"ids": shard_ids}, shard.path, remedy)
            if index == 0:  # all shards have the same settings
                self.settings = expected = found
        self.request = request
        self.context_weight = teacher_cfg.MODEL.WSDDN.CONTEXT
        self._positions = {image_id: position for position, image_id in enumerate(ids)}

    def __len__(self) -> int:
        return len(self._positions)

    def read(self, image_id: object, *, mirror: bool) -> tuple[np.ndarray, tuple[int, int], TeacherOutputs]:
        """Read the outputs for one image.

        Args:
            image_id: id of the image in the dataset.
            mirror: whether to return the outputs for the mirrored image. If they are not stored, maps are flipped.

        Returns:
            (R, 4) float32 boxes in pixels of the image, its height and width, and the teacher's outputs.

        Raises:
            InputError: the shard of the image is corrupt.
        """
        index, image = divmod(self._positions[str(image_id)], IMAGES_PER_SHARD)
        stored = mirror and self.settings["mirrored"]
        with self.shards[index].open() as file:
            outputs = self._read_view(file, VIEWS[stored], image)
            height, width = read_rows(file, "image_sizes", image).tolist()
            boxes = read_rows(file, "boxes", _rows(file, "region_offsets", image))
        return boxes, (height, width), outputs.mirror() if mirror and not stored else outputs

    def _read_view(self, file: safe_open, view: str, image: int) -> TeacherOutputs:
        def read(name: str, rows: slice | int) -> torch.Tensor:
            return torch.from_numpy(read_rows(file, f"{view}.{name}", rows))

        regions = _rows(file, "region_offsets", image)
        outputs = TeacherOutputs(read("class_logits", regions).float(), read("detection_logits", regions).float())
        if self.request.region_layers:
            rows = _rows(file, f"{view}.selected_offsets", image)
            outputs.selected, outputs.region_weights = read("selected", rows).long(), read("region_weights", rows)
            if self.settings[f"features.{self.request.region_layers[0]}"] == "box_head":
                outputs.proposal_weights = read("proposal_weights", rows)
            for layer in self.request.region_layers:
                outputs.features[layer] = read(f"features.{layer}", rows)
                outputs.map_sizes[layer] = tuple(read_rows(file, f"map_sizes.{layer}", image).tolist())
        if self.context_weight > 0:
            outputs.context_map, outputs.context_weight = read("context_map", image), self.context_weight
        for kind, layer in self.request.maps:
            outputs.maps[kind, layer] = read(f"maps.{kind}.{layer}", image)
        return outputs


def check_cache(cfg: CfgNode, request: KnowledgeRequest) -> None:
    """Open the caches as training does, and read all of their tensors.

    Raises:
        InputError: a cache is incomplete or corrupt, or does not fit the run.
    """
    for name, cache in CachedKnowledge(cfg, request).caches.items():
        for shard in progress(cache.shards, name, "shard"):
            shard.check_digest()
        size = tqdm.format_sizeof(sum(shard.path.stat().st_size for shard in cache.shards), "B")
        logger.info("%s: %d images in %d shards, %s", name, len(cache), len(cache.shards), size)


def _rows(file: safe_open, offsets: str, image: int) -> slice:
    return slice(*read_rows(file, offsets, slice(image, image + 2)).tolist())
