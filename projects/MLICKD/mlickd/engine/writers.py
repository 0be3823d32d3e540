"""Writers of the metrics and images of a training run: ``metrics.json`` and TensorBoard."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.evaluation.evaluator import inference_context
from detectron2.utils import comm
from detectron2.utils.events import EventWriter, TensorboardXWriter, get_event_storage
from torch import nn
from torch.utils.data import DataLoader

from mlickd.data.build import build_test_mapper
from mlickd.data.catalog import class_names, dataset_records
from mlickd.decoding import read_image
from mlickd.visualization.figures import image_row, training_view_row
from mlickd.visualization.regions import draw_regions

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

# File of Detectron2's JSONWriter, with a JSON object in each line.
METRICS = "metrics.json"


class WriteEvaluationHook(HookBase):
    """Writes the metrics of an evaluation immediately. Detectron2 writes them later, and a killed run loses them."""

    def __init__(self, writers: Sequence[EventWriter]):
        """Use writers that Detectron2's hook also uses and closes."""
        self._writers = writers

    def after_step(self) -> None:
        """Write new metrics."""
        period = self.trainer.cfg.TEST.EVAL_PERIOD
        if period > 0 and (self.trainer.iter + 1) % period == 0:
            for writer in self._writers:
                writer.write()


def remove_repeated_metrics(path: Path, iteration: int) -> None:
    """Remove from ``metrics.json`` an incomplete last line, and the lines that a run from ``iteration`` writes again.

    The file may be missing. It is truncated in place, because a writer may have it open.
    """
    if not path.exists():
        return
    kept = 0
    with path.open("rb") as file:
        for line in file:
            try:
                complete = line.endswith(b"\n") and json.loads(line)["iteration"] < iteration
            except (ValueError, KeyError, TypeError):
                complete = False
            if not complete:
                break
            kept += len(line)
    os.truncate(path, kept)


class TensorBoardWriter(TensorboardXWriter):
    """Detectron2's writer, which also removes the curves of iterations that a resumed run repeats."""

    def __init__(self, folder: str, start: Callable[[], int]):
        """Write to ``folder``, from the iteration that ``start`` returns when the first value is written."""
        super().__init__(folder)
        self._folder, self._start = folder, start

    @cached_property
    def _writer(self) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        return SummaryWriter(self._folder, purge_step=self._start())


class TrainingViewsHook(HookBase):
    """Logs the first views of a batch with their labels to TensorBoard, at the start and periodically.

    A batch depends only on seed and iteration, so this hook makes the views again and leaves the loader unchanged.
    ``TENSORBOARD.IMAGES`` is the number of views.
    """

    def __init__(self, cfg: CfgNode, data_loader: DataLoader):
        self.cfg, self.data_loader = cfg, data_loader
        self.class_names = class_names(cfg.DATASETS.TRAIN[0])

    def before_train(self) -> None:
        """Put the views of the first iteration."""
        self._put(self.trainer.start_iter)

    def after_step(self) -> None:
        """Put the views of this iteration, every ``VIS_PERIOD`` iterations."""
        if self.cfg.VIS_PERIOD > 0 and (self.trainer.iter + 1) % self.cfg.VIS_PERIOD == 0:
            self._put(self.trainer.iter)

    def _put(self, iteration: int) -> None:
        views = self.data_loader.batch_sampler.batch(iteration)[: self.cfg.TENSORBOARD.IMAGES]
        samples = [self.data_loader.dataset[view] for view in views]
        row = training_view_row(samples, self.class_names, self.cfg.INPUT.FORMAT)
        get_event_storage().put_image("training views", row)


def put_regions(cfg: CfgNode, model: nn.Module) -> None:
    """Put the teacher's best regions on ``TENSORBOARD.IMAGES`` images of each test set into the event storage."""
    if not comm.is_main_process():
        return
    for name in cfg.DATASETS.TEST:
        records = dataset_records(name, boxes=False)[: cfg.TENSORBOARD.IMAGES]
        mapper, names = build_test_mapper(cfg, name), class_names(name)
        with inference_context(model), torch.no_grad():
            outputs = model([mapper(record) for record in records])
        images = [
            draw_regions(read_image(record["file_name"]), output["instances"], names, top_k=5, side=480)
            for record, output in zip(records, outputs, strict=True)
        ]
        captions = [", ".join(names[label] for label in record["labels"]) or "(no label)" for record in records]
        get_event_storage().put_image(f"regions on {name}", image_row(images, captions))
