"""The trainer of teacher and student: Detectron2's, with this project's data, optimizer and evaluation."""

from __future__ import annotations

import logging
import os
import sys
import weakref
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.engine.hooks import BestCheckpointer, EvalHook, PeriodicCheckpointer, PreciseBN
from detectron2.engine.train_loop import TrainerBase
from detectron2.evaluation import DatasetEvaluators, inference_on_dataset
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventWriter, JSONWriter
from detectron2.utils.file_io import PathManager
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from mlickd.data import build_multi_scale_loader, build_test_loader, build_train_loader
from mlickd.data.build import corruption_of, labeled_share, model_class, needs_knowledge
from mlickd.distillation import DistillationHook, DistilledClassifier, LiveTeacher
from mlickd.distillation.cache import CachedKnowledge
from mlickd.distillation.calibration import CalibratedKnowledge, load_calibration
from mlickd.distillation.hook import KnowledgeSource
from mlickd.distillation.teacher import load_teacher_config
from mlickd.evaluation import MultiLabelEvaluator, WeakDetectionEvaluator
from mlickd.evaluation.thresholds import read_thresholds
from mlickd.files import whole_file, write_json
from mlickd.modeling import ImageModelWithTTA, load_backbone_weights, load_checkpoint
from mlickd.runs import STUDENT_CHECKPOINT, provenance

from .checkpointing import FINAL, RunCheckpointer
from .compilation import compile_backbone
from .localization import TrainingCorLoc
from .optimizer import build_optimizer
from .pictures import TrainingViewsHook, put_regions
from .processes import distributed_model
from .running_statistics import EqualStatisticsHook, RepeatablePreciseBN
from .stopping import StopHook
from .training_loop import TrainingLoop, mixed_precision
from .writers import METRICS, EvaluationPrinter, EvaluationWriter, TensorBoardWriter, forget_metrics

__all__ = ["Trainer", "load_initial_weights"]

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """Trains what ``MODEL.META_ARCHITECTURE`` names: the teacher, the plain student, or a stage of distillation."""

    def __init__(self, cfg: CfgNode):
        # As DefaultTrainer.__init__, but several processes may be on the CPU, too.
        TrainerBase.__init__(self)
        PathManager.mkdirs(cfg.OUTPUT_DIR)
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        if cfg.SOLVER.COMPILE:
            compile_backbone(model)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        # In stage 1 the layers behind the last map that is compared get no gradients.
        model = distributed_model(model, find_unused_parameters=cfg.KD.STAGE == "feature")
        self._trainer = TrainingLoop(
            model,
            data_loader,
            optimizer,
            device=cfg.MODEL.DEVICE,
            parts=cfg.SOLVER.ACCUMULATE,
            precision=mixed_precision(cfg),
            # As the sampler takes it: images and dropout are repeatable without a seed, too.
            seed=max(cfg.SEED, 0),
            output_dir=cfg.OUTPUT_DIR,
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = RunCheckpointer(
            model, cfg.OUTPUT_DIR, keep=cfg.SOLVER.KEEP_CHECKPOINTS, trainer=weakref.proxy(self)
        )
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The model, without the log of its modules that Detectron2 prints."""
        from detectron2.modeling import build_model

        model = build_model(cfg)
        if model_class(cfg).student_architecture:
            model.labeled_share = labeled_share(cfg)
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        logger.info("%s: %.2f million trainable parameters", type(model).__name__, trainable / 1e6)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """See :func:`mlickd.engine.optimizer.build_optimizer`."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> DataLoader:
        """See :func:`mlickd.data.build_train_loader`."""
        live = model_class(cfg).student_architecture and not cfg.KD.CACHE and needs_knowledge(cfg)
        return build_train_loader(cfg, load_teacher_config(cfg) if live else None)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> DataLoader:
        """See :func:`mlickd.data.build_test_loader`."""
        return build_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str, folder: str = "inference") -> DatasetEvaluators:
        """Multi-label metrics for every model, and detection metrics for the teacher.

        Args:
            cfg: of the model.
            dataset_name: of the dataset.
            folder: in ``OUTPUT_DIR``, for the reports.
        """
        output_dir = os.path.join(cfg.OUTPUT_DIR, folder, dataset_name)
        evaluators = [
            MultiLabelEvaluator(
                dataset_name,
                threshold=cfg.TEST.THRESHOLD,
                topk=cfg.TEST.TOP_K,
                ap=cfg.TEST.AVERAGE_PRECISION,
                class_thresholds=read_thresholds(cfg.TEST.THRESHOLDS) if cfg.TEST.THRESHOLDS else None,
                provenance=provenance(cfg, dataset_name) if comm.is_main_process() else None,
                corruption=str(corruption_of(cfg) or ""),
                output_dir=output_dir,
            )
        ]
        if model_class(cfg).is_detector:
            evaluators.append(WeakDetectionEvaluator(dataset_name, output_dir=output_dir))
        return DatasetEvaluators(evaluators)

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators=None) -> OrderedDict:
        """Detectron2's evaluation; the results also go to ``<OUTPUT_DIR>/results.json``."""
        results = super().test(cfg, model, evaluators)
        if comm.is_main_process():
            write_json(os.path.join(cfg.OUTPUT_DIR, "results.json"), results)
        return results

    @classmethod
    def test_with_TTA(cls, cfg: CfgNode, model: nn.Module) -> OrderedDict:
        """As :meth:`test`, averaged over the views of ``TEST.AUG``; also goes to ``<OUTPUT_DIR>/results_TTA.json``.

        The name is that of Detectron2's ``train_net.py``, and so is ``_TTA`` behind the names of the results.
        """
        logger.info("Evaluation averaged over the views of TEST.AUG")
        model = _unwrap(model)
        model = model.student if isinstance(model, DistilledClassifier) else model
        averaged = ImageModelWithTTA(model, flip=cfg.TEST.AUG.FLIP)
        results = OrderedDict()
        for name in cfg.DATASETS.TEST:
            evaluator = cls.build_evaluator(cfg, name, "inference_TTA")
            results[name] = inference_on_dataset(averaged, build_multi_scale_loader(cfg, name), evaluator)
        if len(results) == 1:
            results = results[cfg.DATASETS.TEST[0]]
        results = OrderedDict((f"{name}_TTA", values) for name, values in results.items())
        if comm.is_main_process():
            write_json(os.path.join(cfg.OUTPUT_DIR, "results_TTA.json"), results)
        return results

    def build_hooks(self) -> list[HookBase]:
        """Detectron2's hooks, further evaluations, and with distillation what brings the knowledge and what saves.

        Stage 1 leaves the classifier as it was, so its metrics say nothing: it is evaluated only where
        ``TEST.EVAL_PERIOD`` asks for it.
        """
        hooks = super().build_hooks()
        if self.cfg.KD.STAGE == "feature" and self.cfg.TEST.EVAL_PERIOD == 0:
            hooks = [hook for hook in hooks if not isinstance(hook, EvalHook)]
        else:
            # Behind the evaluation, and before what writes down the figures.
            place = next(i for i, hook in enumerate(hooks) if isinstance(hook, EvalHook)) + 1
            hooks[place:place] = self._further_evaluations()
        if self.cfg.TENSORBOARD.PICTURES > 0 and comm.is_main_process():
            hooks.insert(0, TrainingViewsHook(self.cfg, self.data_loader))
        source = None
        if model_class(self.cfg).student_architecture:
            if needs_knowledge(self.cfg):
                source = build_knowledge_source(self.cfg)
                hooks.insert(0, DistillationHook(source, read_ahead=bool(self.cfg.KD.CACHE)))
            if comm.is_main_process():
                hooks.append(SaveStudentHook(self.cfg.OUTPUT_DIR))
        hooks = [self._precise_statistics(source) if isinstance(hook, PreciseBN) else hook for hook in hooks]
        # Before everything that saves or evaluates.
        hooks.insert(0, EqualStatisticsHook(self.model))
        # A checkpoint ends its iteration: all that belongs to the iteration, figures of an evaluation too, is on the
        # disk by then, and nothing is missing in a run that is killed and resumed.
        if comm.is_main_process():
            hooks.append(EvaluationWriter(self._curves, self.cfg.TEST.EVAL_PERIOD))
        saving = [hook for hook in hooks if isinstance(hook, PeriodicCheckpointer)]
        hooks = [hook for hook in hooks if not isinstance(hook, PeriodicCheckpointer)]
        return [*hooks, *saving, StopHook(self.checkpointer)]

    def _precise_statistics(self, source: KnowledgeSource | None) -> RepeatablePreciseBN:
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.DATALOADER.NUM_WORKERS = 0  # as Detectron2's
        loader, seed = self.build_train_loader(cfg), max(cfg.SEED, 0)
        count = cfg.TEST.PRECISE_BN.NUM_ITER
        return RepeatablePreciseBN(cfg.TEST.EVAL_PERIOD, self.model, loader, count, seed=seed, source=source)

    def _further_evaluations(self) -> list[EvalHook]:
        hooks = []
        if model_class(self.cfg).is_detector and self.cfg.TEST.CORLOC_IMAGES > 0:
            corloc = TrainingCorLoc(self.cfg)
            hooks.append(EvalHook(self.cfg.TEST.EVAL_PERIOD, lambda: corloc(self.model)))
        if model_class(self.cfg).is_detector and self.cfg.TENSORBOARD.PICTURES > 0:
            hooks.append(EvalHook(self.cfg.TEST.EVAL_PERIOD, lambda: put_regions(self.cfg, _unwrap(self.model))))
        if self.cfg.TEST.AUG.ENABLED:
            hooks.append(EvalHook(0, lambda: self.test_with_TTA(self.cfg, self.model)))
        return hooks

    def build_writers(self) -> list[EventWriter]:
        """Detectron2's, and one line for each evaluation in the log."""
        folder = self.cfg.OUTPUT_DIR
        self._curves = [
            JSONWriter(os.path.join(folder, METRICS)),
            TensorBoardWriter(folder, lambda: self.start_iter),
            EvaluationPrinter(),
        ]
        return [CommonMetricPrinter(self.max_iter), *self._curves]

    def before_train(self) -> None:
        """As Detectron2."""
        self._handled = sys.exc_info()[1]
        super().before_train()

    def after_train(self) -> None:
        """As Detectron2, but a run that a signal or an error ends is not evaluated, nor is its end the last."""
        # Where a finished run is resumed to be evaluated, Detectron2 counts one iteration more.
        self.iter = min(self.iter, self.max_iter)
        if sys.exc_info()[1] is self._handled:
            super().after_train()
            return
        self.storage.iter = self.iter
        for hook in self._hooks:
            if not isinstance(hook, (EvalHook, BestCheckpointer)):
                # A disk that is full for a checkpoint is so for a log; what is said is the first.
                with suppress(OSError):
                    hook.after_train()

    def resume_or_load(self, resume: bool = True) -> None:
        """Resume the run in ``OUTPUT_DIR``, or start from ``MODEL.WEIGHTS`` or ``MODEL.BACKBONE.WEIGHTS``.

        What is left there of another run, or of iterations that are made once more, is forgotten.

        Raises:
            InputError: the checkpoint does not fit the model, or none is whole.
        """
        if resume and self.checkpointer.has_checkpoint():
            name = self.checkpointer.resume()
            self.start_iter = self.iter + 1
            if self.start_iter >= self.max_iter and name != f"{FINAL}.pth":
                # Killed just before its last file: there is no step left after which it would be written.
                self.checkpointer.save(FINAL, iteration=self.iter)
        else:
            # First, for they may be what another run has left in this folder.
            load_initial_weights(self.cfg, _unwrap(self.model))
            comm.synchronize()
            self.checkpointer.start_anew(self.cfg.MODEL.WEIGHTS)
        if comm.is_main_process():
            forget_metrics(Path(self.cfg.OUTPUT_DIR) / METRICS, self.start_iter)
        self.data_loader.batch_sampler.start_iteration = self.start_iter


def build_knowledge_source(cfg: CfgNode) -> KnowledgeSource:
    """Where the knowledge of a distillation comes from: the cache ``KD.CACHE``, or the teacher itself; calibrated by
    ``KD.PREDICTION.CALIBRATION``."""
    source = CachedKnowledge(cfg) if cfg.KD.CACHE else LiveTeacher(cfg)
    calibration = load_calibration(cfg)
    return source if calibration is None else CalibratedKnowledge(source, calibration)


class SaveStudentHook(HookBase):
    """Writes the student alone after training: a checkpoint of the plain classifier."""

    def __init__(self, output_dir: str):
        self.output_dir = output_dir

    def after_train(self) -> None:
        """Write ``student.pth``, unless training has ended before its last iteration."""
        # Also called when training stops early; only a finished student is one for use.
        if self.trainer.iter < self.trainer.max_iter:
            return
        path = Path(self.output_dir) / STUDENT_CHECKPOINT
        with whole_file(path, "make room, then give the same command with --resume") as file:
            torch.save({"model": _unwrap(self.trainer.model).student.state_dict()}, file)
        logger.info("The student for use: %s", path)


def load_initial_weights(cfg: CfgNode, model: nn.Module) -> None:
    """``MODEL.WEIGHTS``, a checkpoint of the whole model, or else ``MODEL.BACKBONE.WEIGHTS``, or else nothing.

    For a student in distillation both are the student's.

    Raises:
        InputError: the checkpoint does not fit.
    """
    target = model.student if isinstance(model, DistilledClassifier) else model
    if cfg.MODEL.WEIGHTS:
        load_checkpoint(target, cfg.MODEL.WEIGHTS, "MODEL.WEIGHTS")
    elif cfg.MODEL.BACKBONE.WEIGHTS:
        load_backbone_weights(target, cfg.MODEL.BACKBONE.WEIGHTS)


def _unwrap(model: nn.Module) -> nn.Module:
    return model.module if isinstance(model, DistributedDataParallel) else model
