"""A teacher, proposals and caches of the tiny scenes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode

from helpers.small_models import save_teacher, student_config, teacher_config
from mlickd.data import ImageView, View, build_train_loader, dataset_records, write_store
from mlickd.data.proposals.store import image_list_digest
from mlickd.distillation import KnowledgeRequest
from mlickd.distillation.cache import make_cache
from mlickd.distillation.teacher_config import load_teacher_config


@dataclass
class CachedScenes:
    """A folder with the checkpoint of a teacher and proposals of `tiny_train`, from which caches are made."""

    folder: Path
    teacher: Path
    proposals: Path

    @classmethod
    def create(cls, folder: Path) -> CachedScenes:
        folder.mkdir(parents=True, exist_ok=True)
        scenes = cls(folder, save_teacher(folder, scenes_teacher_config()), folder / "proposals")
        write_random_boxes(scenes.proposals, "tiny_train", seed=1)
        return scenes

    def config(self, stage: str, cache: object = "", *options: object) -> CfgNode:
        """Return a complete configuration of the distillation."""
        settings = ["MODEL.NUM_CLASSES", 20, "DATASETS.TRAIN", ("tiny_train",), "DATASETS.TEST", ("tiny_test",)]
        settings += ["DATASETS.PROPOSALS.TRAIN_FILES", (str(self.proposals),)]
        settings += ["KD.CACHE", str(cache), "KD.REGIONS.TOP_K", 6, "SOLVER.IMS_PER_BATCH", 4]
        return student_config(self.teacher, stage, *settings, *options)

    def make(self, name: str, *options: object, features: bool = True, **arguments: object) -> Path:
        """Make a cache with the features for the method, or only image scores, and return its folder."""
        cache = self.folder / name
        request = None if features else KnowledgeRequest()
        make_cache(self.config("feature", cache, *options), request, **arguments)
        return cache


def scenes_teacher_config(*options: object) -> CfgNode:
    """Return the configuration of a teacher for the scenes, with these options."""
    cfg = teacher_config()
    # Large logits, so that the order of the regions does not depend on rounding.
    cfg.merge_from_list(["MODEL.NUM_CLASSES", 20, "MODEL.WSDDN.INIT_STD", 2.0, *options])
    return cfg


def write_random_boxes(path: Path, dataset: str, seed: int, counts: tuple[int, int] = (5, 10)) -> None:
    """Write a store with random boxes for every image, 5 to 9 by default."""
    generator = np.random.default_rng(seed)
    items = []
    for record in dataset_records(dataset):
        count = int(generator.integers(*counts))
        low, side = generator.uniform(0, 0.6, (count, 2)), generator.uniform(0.15, 0.4, (count, 2))
        boxes = np.concatenate([low, low + side], axis=1) * ([record["width"], record["height"]] * 2)
        items.append((record["image_id"], boxes.astype(np.float32), generator.random(count).astype(np.float32)))
    digest = image_list_digest(dataset_records(dataset, boxes=False))
    write_store(path, items, method="random", parameters={}, image_digest=digest)


def samples(cfg: CfgNode, views: list[tuple[int, View]]) -> list[dict]:
    """Return a training batch of these images and views, as the loader of this configuration does."""
    live = not cfg.KD.CACHE
    dataset = build_train_loader(cfg, load_teacher_config(cfg) if live else None).dataset
    return [dataset[ImageView(index, view)] for index, view in views]
