"""Detectron2's trainer with this project's data, optimizer and evaluation, for teachers and students."""

import logging
import os
import weakref
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.engine.hooks import EvalHook, PeriodicCheckpointer
from detectron2.engine.train_loop import TrainerBase
from detectron2.evaluation import DatasetEvaluators, inference_on_dataset
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventWriter, JSONWriter
from torch import nn
from torch.utils.data import DataLoader

from mlickd.data import build_test_loader, build_train_loader
from mlickd.data.build import labeled_fraction, model_class, needs_knowledge
from mlickd.distillation import DistillationHook
from mlickd.distillation.hook import build_knowledge_source
from mlickd.distillation.teacher_config import load_teacher_config
from mlickd.evaluation import MultiLabelEvaluator, TrainingCorLoc, WeakDetectionEvaluator
from mlickd.files import write_json
from mlickd.modeling import ImageModelWithTTA, load_backbone_weights, load_checkpoint
from mlickd.runs import provenance, write_run_files

from . import writers
from .checkpointing import FINAL, RunCheckpointer, decide_to_resume
from .hooks import AverageBatchNormHook, SaveStudentHook, StopHook
from .optimizer import build_optimizer
from .processes import distributed_model, lock_output_dir
from .training_loop import TrainingLoop, mixed_precision

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """Trains the model that ``MODEL.META_ARCHITECTURE`` names: a teacher, a student, or a stage of distillation."""

    def __init__(self, cfg: CfgNode):
        """Build everything from a configuration that :func:`mlickd.engine.finalize_config` has completed."""
        # DefaultTrainer.__init__ would build another loop and checkpointer.
        TrainerBase.__init__(self)
        lock_output_dir(cfg.OUTPUT_DIR)
        self.kind = model_class(cfg)
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        model = distributed_model(model)
        self._trainer = TrainingLoop(
            model,
            data_loader,
            optimizer,
            accumulation_steps=cfg.SOLVER.GRAD_ACCUM_STEPS,
            autocast_dtype=mixed_precision(cfg),
            # A run without a seed draws images and dropout with seed 0.
            seed=max(cfg.SEED, 0),
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = RunCheckpointer(
            model, cfg.OUTPUT_DIR, keep=cfg.SOLVER.KEEP_CHECKPOINTS, trainer=weakref.proxy(self)
        )
        # Load the teacher after the student is built, because the student's random weights must not depend on it.
        self.knowledge = build_knowledge_source(cfg) if needs_knowledge(cfg) else None
        if self.knowledge and cfg.KD.CACHE:
            logger.info("Teacher: knowledge from the cache %s", cfg.KD.CACHE)
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """Build the model without logging its modules."""
        model = build_model(cfg)
        if model.student_architecture:
            model.labeled_fraction = labeled_fraction(cfg)
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        logger.info("%s: %.2f million trainable parameters", type(model).__name__, trainable / 1e6)
        return model

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> DataLoader:
        """See :func:`mlickd.data.build_train_loader`; a cached teacher does not see the images."""
        live_teacher = load_teacher_config(cfg) if needs_knowledge(cfg) and not cfg.KD.CACHE else None
        return build_train_loader(cfg, live_teacher)

    build_optimizer = staticmethod(build_optimizer)
    build_test_loader = staticmethod(build_test_loader)

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, folder: str = "inference", checkpoint: str = ""
    ) -> DatasetEvaluators:
        """Build the evaluator of multi-label metrics, and of detection metrics if the model is a detector.

        Its reports go to ``<OUTPUT_DIR>/<folder>/<dataset_name>``. ``checkpoint``: the evaluated file, if any.
        """
        output_dir = os.path.join(cfg.OUTPUT_DIR, folder, dataset_name)
        evaluators = [
            MultiLabelEvaluator(
                dataset_name,
                threshold=cfg.TEST.THRESHOLD,
                topk=cfg.TEST.TOP_K,
                ap=cfg.TEST.AVERAGE_PRECISION,
                provenance=provenance(cfg, dataset_name, checkpoint) if comm.is_main_process() else None,
                output_dir=output_dir,
            )
        ]
        if model_class(cfg).is_detector:
            evaluators.append(WeakDetectionEvaluator(dataset_name, output_dir=output_dir))
        return DatasetEvaluators(evaluators)

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators=None) -> OrderedDict:
        """Evaluate like Detectron2, and write the results to ``<OUTPUT_DIR>/results.json``."""
        results = super().test(cfg, model, evaluators)
        if comm.is_main_process():
            write_json(os.path.join(cfg.OUTPUT_DIR, "results.json"), results)
        return results

    @classmethod
    def test_with_TTA(cls, cfg: CfgNode, model: nn.Module) -> OrderedDict:
        """Evaluate the average over the views of ``TEST.AUG``, and write ``<OUTPUT_DIR>/results_TTA.json``.

        The method and the suffix ``_TTA`` of the results have the names of Detectron2's ``train_net.py``.
        """
        logger.info("Evaluation averaged over the views of TEST.AUG")
        averaged = ImageModelWithTTA(getattr(model, "student", model), flip=cfg.TEST.AUG.FLIP)
        results = OrderedDict()
        for name in cfg.DATASETS.TEST:
            evaluator = cls.build_evaluator(cfg, name, "inference_TTA")
            results[name] = inference_on_dataset(averaged, build_test_loader(cfg, name, multi_scale=True), evaluator)
        if len(results) == 1:
            results = results[cfg.DATASETS.TEST[0]]
        results = OrderedDict((f"{name}_TTA", values) for name, values in results.items())
        if comm.is_main_process():
            write_json(os.path.join(cfg.OUTPUT_DIR, "results_TTA.json"), results)
        return results

    def build_hooks(self) -> list[HookBase]:
        """Build the hooks of Detectron2 and of this project, in the order in which they act after a step.

        Stage 1 does not train the classifier, so it evaluates the student only if ``TEST.EVAL_PERIOD`` is positive.
        """
        cfg = self.cfg
        # This hook acts before all hooks that evaluate or save.
        hooks: list[HookBase] = [AverageBatchNormHook()]
        if self.knowledge is not None:
            hooks.append(DistillationHook(self.knowledge, read_ahead=bool(cfg.KD.CACHE)))
        if cfg.TENSORBOARD.IMAGES > 0 and comm.is_main_process():
            hooks.append(writers.TrainingViewsHook(cfg, self.data_loader))
        if self.kind.student_architecture and comm.is_main_process():
            hooks.append(SaveStudentHook())  # before the last evaluation, which a signal may end
        saving: list[HookBase] = []
        for hook in super().build_hooks():
            if isinstance(hook, PeriodicCheckpointer):
                saving.append(hook)
            elif not isinstance(hook, EvalHook):
                hooks.append(hook)
            elif cfg.KD.STAGE != "feature" or cfg.TEST.EVAL_PERIOD > 0:
                hooks += [hook, *self._further_evaluations()]
        if comm.is_main_process():
            hooks.append(writers.WriteEvaluationHook(self._curves))
        # The checkpoint is the last file of an iteration. If the run is killed earlier, it repeats the iteration.
        self._stop = StopHook()
        self._trainer.read_batch = self._stop.read_batch
        return [*hooks, *saving, self._stop]

    def _further_evaluations(self) -> list[EvalHook]:
        """Return hooks for CorLoc, for images of regions, and for :meth:`test_with_TTA`."""
        cfg, period, hooks = self.cfg, self.cfg.TEST.EVAL_PERIOD, []
        if self.kind.is_detector and cfg.TEST.CORLOC_IMAGES > 0:
            corloc = TrainingCorLoc(cfg)
            hooks.append(EvalHook(period, lambda: corloc(self.model)))
        if self.kind.is_detector and cfg.TENSORBOARD.IMAGES > 0:
            hooks.append(EvalHook(period, lambda: writers.put_regions(cfg, self.checkpointer.model)))
        if cfg.TEST.AUG.ENABLED:
            hooks.append(EvalHook(0, lambda: self.test_with_TTA(cfg, self.checkpointer.model)))
        return hooks

    def build_writers(self) -> list[EventWriter]:
        """Build the writers of the log, ``metrics.json`` and TensorBoard."""
        folder = self.cfg.OUTPUT_DIR
        self._curves = [
            JSONWriter(os.path.join(folder, writers.METRICS)),
            writers.TensorBoardWriter(folder, lambda: self.start_iter),
        ]
        return [CommonMetricPrinter(self.max_iter), *self._curves]

    def after_train(self) -> None:
        """Finish training; do not evaluate a run that a signal or an error has ended."""
        # A finished run that is resumed trains no iteration, but Detectron2 still adds 1 to iter.
        self.iter = min(self.iter, self.max_iter)
        if self.iter == self.max_iter:
            self._stop.restore_handlers()
            super().after_train()
            return
        self.storage.iter = self.iter
        for hook in self._hooks:
            if not isinstance(hook, EvalHook):
                # A full disk that has stopped the run may also raise here, but only the first error is shown.
                with suppress(OSError):
                    hook.after_train()

    def resume_or_load(self, resume: bool = True) -> None:
        """Resume the run in ``OUTPUT_DIR``, or start from ``MODEL.WEIGHTS`` or ``MODEL.BACKBONE.WEIGHTS``.

        Remove the metrics of an earlier run in the same folder, and of iterations that the run will repeat. See
        :func:`decide_to_resume` for ``resume``.

        Raises:
            InputError: the checkpoint does not fit the model, or all checkpoints are corrupt.
        """
        if decide_to_resume(self.cfg.OUTPUT_DIR, requested=resume):
            name = self.checkpointer.resume()
            self.start_iter = self.iter + 1
            if self.start_iter >= self.max_iter and name != f"{FINAL}.pth":
                # The run was killed before it saved the final checkpoint, and no further step would save it.
                self.checkpointer.save(FINAL, iteration=self.iter)
        else:
            # Load first, so that the files of an earlier run keep their names if a process cannot load the weights.
            load_initial_weights(self.cfg, self.checkpointer.model)
            comm.synchronize()
            self.checkpointer.rename_earlier_run()
        if comm.is_main_process():
            write_run_files(self.cfg)
            writers.remove_repeated_metrics(Path(self.cfg.OUTPUT_DIR) / writers.METRICS, self.start_iter)
        self.data_loader.batch_sampler.start_iteration = self.start_iter


def load_initial_weights(cfg: CfgNode, model: nn.Module) -> None:
    """Load ``MODEL.WEIGHTS`` (the whole model) or else ``MODEL.BACKBONE.WEIGHTS``; in a distillation, for the student.

    Raises:
        InputError: the checkpoint does not fit.
    """
    target = getattr(model, "student", model)
    if cfg.MODEL.WEIGHTS:
        load_checkpoint(target, cfg.MODEL.WEIGHTS, "MODEL.WEIGHTS")
    elif cfg.MODEL.BACKBONE.WEIGHTS:
        load_backbone_weights(target, cfg.MODEL.BACKBONE.WEIGHTS)
