"""A few pictures for TensorBoard: what a model is trained on, and what a teacher finds."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.evaluation.evaluator import inference_context
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import nn
from torch.utils.data import DataLoader

from mlickd.data.build import build_test_mapper
from mlickd.data.catalog import class_names, dataset_records
from mlickd.data.reading import read_image
from mlickd.visualization.picture_rows import picture_row, training_view_row
from mlickd.visualization.regions import draw_regions

__all__ = ["TrainingViewsHook", "put_regions"]


class TrainingViewsHook(HookBase):
    """Gives the first views of a batch with their labels to the event storage, at the start and then periodically.

    A batch is a function of seed and iteration, so that its views are made again here: the loader goes on as without.
    """

    def __init__(self, cfg: CfgNode, data_loader: DataLoader):
        """
        Args:
            cfg: ``TENSORBOARD.PICTURES`` views every ``VIS_PERIOD`` iterations.
            data_loader: of :func:`mlickd.data.build_train_loader`.
        """
        self.count = cfg.TENSORBOARD.PICTURES
        self.period = cfg.VIS_PERIOD
        self.image_format = cfg.INPUT.FORMAT
        self.class_names = class_names(cfg.DATASETS.TRAIN[0])
        self.data_loader = data_loader

    def before_train(self) -> None:
        """Put the views of the first iteration."""
        self._put(self.trainer.start_iter)

    def after_step(self) -> None:
        """Put the views of every ``VIS_PERIOD``-th iteration."""
        if self.period > 0 and (self.trainer.iter + 1) % self.period == 0:
            self._put(self.trainer.iter)

    def _put(self, iteration: int) -> None:
        views = self.data_loader.batch_sampler.batch(iteration)[: self.count]
        samples = [self.data_loader.dataset[view] for view in views]
        get_event_storage().put_image("training views", training_view_row(samples, self.class_names, self.image_format))


def put_regions(cfg: CfgNode, model: nn.Module, top_k: int = 5) -> dict:
    """Give the teacher's best regions on the first photos of each test set to the event storage.

    Args:
        cfg: ``TENSORBOARD.PICTURES`` photos of each of ``DATASETS.TEST``.
        model: the teacher.
        top_k: regions of a photo.

    Returns:
        No figures, as an evaluation: ``{}``.
    """
    if not comm.is_main_process():
        return {}
    for name in cfg.DATASETS.TEST:
        records, mapper, names = dataset_records(name, boxes=False), build_test_mapper(cfg, name), class_names(name)
        records = records[: cfg.TENSORBOARD.PICTURES]
        with inference_context(model), torch.no_grad():
            outputs = model([mapper(record) for record in records])
        pictures = [
            draw_regions(read_image(record["file_name"]), output["instances"].to("cpu"), names, top_k=top_k, side=480)
            for record, output in zip(records, outputs, strict=True)
        ]
        captions = [", ".join(names[label] for label in record["labels"]) or "(no label)" for record in records]
        get_event_storage().put_image(f"regions on {name}", picture_row(pictures, captions))
    return {}
