"""CorLoc on training images: how well a teacher finds the objects that it is told are there."""

from __future__ import annotations

import logging

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.evaluation import inference_on_dataset
from torch import nn

from mlickd.data import build_test_loader, dataset_records
from mlickd.evaluation import WeakDetectionEvaluator

__all__ = ["TrainingCorLoc"]

logger = logging.getLogger(__name__)


class TrainingCorLoc:
    """CorLoc (Deselaers et al. 2012) of a teacher on a sample of its training images.

    The share of images of a class whose best region of that class hits an object at IoU 0.5, averaged over the classes.
    It is by definition of the images that were trained on. Boxes are read here, for this figure, and nowhere else in
    training.
    """

    def __init__(self, cfg: CfgNode):
        """Draw the sample; the same seed gives the same images. Datasets without boxes are named in the log.

        Args:
            cfg: ``TEST.CORLOC_IMAGES`` of each of ``DATASETS.TRAIN`` that has boxes, or all where there are fewer.
        """
        self.cfg = cfg
        self.samples: dict[str, list[dict]] = {}
        for name in cfg.DATASETS.TRAIN:
            boxed = [record for record in dataset_records(name) if record.get("annotations")]
            if not boxed:
                logger.info("%s has no boxes: CorLoc on training images is not measured (TEST.CORLOC_IMAGES)", name)
                continue
            generator = np.random.default_rng(max(cfg.SEED, 0))
            count = min(cfg.TEST.CORLOC_IMAGES, len(boxed))
            chosen = sorted(generator.choice(len(boxed), count, replace=False).tolist())
            self.samples[name] = [boxed[i] for i in chosen]

    def __call__(self, model: nn.Module) -> dict[str, dict[str, float]]:
        """
        Args:
            model: the teacher.

        Returns:
            ``{"CorLoc": {dataset: percent}}``; empty on all but the main process, and where no dataset has boxes.
        """
        found = {}
        for name, records in self.samples.items():
            # A loader draws from PyTorch's generator. What training draws after it is to be the same with and without.
            with torch.random.fork_rng(devices=[]):
                loader = build_test_loader(self.cfg, name, records)
                results = inference_on_dataset(model, loader, WeakDetectionEvaluator(name, records=records))
            if results:
                found[name] = results["detection"]["CorLoc"]
        return {"CorLoc": found} if found else {}
