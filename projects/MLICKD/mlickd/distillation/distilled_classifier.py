"""The model that trains in a distillation: a student and the distillers of one stage."""

from __future__ import annotations

from typing import ClassVar

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from mlickd.errors import InputError
from mlickd.modeling.meta_arch import MultiLabelClassifier

from .distillers.base import PREDICTION_DISTILLER_REGISTRY, feature_distiller_class
from .teacher_config import load_teacher_config

KD_STAGES = ("feature", "prediction")


@META_ARCH_REGISTRY.register()
class DistilledClassifier(nn.Module):
    """A student and the distillers of one stage.

    The model does not contain the teacher: :class:`~mlickd.distillation.DistillationHook` adds the teacher's knowledge
    to each training sample. At inference, the model only runs its student, and ``student.state_dict()`` is a checkpoint
    of the plain classifier.

    - Stage ``feature``: only the backbone of the student (its convolutions with their normalization) and the adapters
      of the distiller get gradients; the head of the student does not. This stage needs no labels.
    - Stage ``prediction``: all parameters get gradients, from the labels and the teacher's image scores, and optionally
      (``KD.PREDICTION.FEATURE_LOSS``) from a distiller of features.

    Attributes:
        is_detector, student_architecture: see :class:`~mlickd.modeling.meta_arch.ImageModel`.
        labeled_fraction: expected fraction of labeled images in a batch, above 0. The trainer sets it so that the label
            loss is a mean over the labeled images.
    """

    is_detector: ClassVar[bool] = False
    student_architecture: ClassVar[str] = "MultiLabelClassifier"

    @configurable
    def __init__(
        self,
        *,
        student: MultiLabelClassifier,
        stage: str,
        feature_distiller: nn.Module | None = None,
        prediction_distiller: nn.Module | None = None,
    ):
        """
        Args:
            student: the classifier.
            stage: ``feature`` or ``prediction``.
            feature_distiller: distiller of features; optional in stage ``prediction``.
            prediction_distiller: distiller of image scores in stage ``prediction``; None: no prediction distillation.
        """
        super().__init__()
        self.student = student
        self.stage = stage
        self.feature_distiller = feature_distiller
        self.prediction_distiller = prediction_distiller
        self.labeled_fraction = 1.0
        if stage == "feature":
            self.student.head.requires_grad_(False)

    def train(self, mode: bool = True) -> DistilledClassifier:
        """Set training mode as in PyTorch, but keep the student's head in evaluation mode in stage ``feature``."""
        super().train(mode)
        if self.stage == "feature":
            self.student.head.eval()
        return self

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Build the student and the distillers of ``KD.STAGE``."""
        student = META_ARCH_REGISTRY.get(cls.student_architecture)(cfg)
        if cfg.KD.STAGE == "feature" and not any(p.requires_grad for p in student.backbone.parameters()):
            raise InputError(
                f"MODEL.BACKBONE.FROZEN {cfg.MODEL.BACKBONE.FROZEN}, FREEZE_AT {cfg.MODEL.BACKBONE.FREEZE_AT}: stage 1 "
                "trains only the backbone; set FROZEN False and a smaller FREEZE_AT"
            )
        distillers = {}
        feature_class = feature_distiller_class(cfg)
        if cfg.KD.STAGE == "feature" and feature_class.needs_labels:
            raise InputError(
                f"KD.FEATURE.DISTILLER {cfg.KD.FEATURE.DISTILLER} needs labels; set KD.METHOD_STAGES "
                "\"('prediction',)\" and KD.PREDICTION.FEATURE_LOSS True"
            )
        if cfg.KD.STAGE == "feature" or cfg.KD.PREDICTION.FEATURE_LOSS:
            divisor = max(student.backbone.size_divisibility, 1)
            if any(size % divisor for size in cfg.INPUT.SIZES_TRAIN):
                raise InputError(
                    f"INPUT.SIZES_TRAIN {cfg.INPUT.SIZES_TRAIN}: distillers of features need maps without padding; set "
                    f"multiples of {divisor}, to which the backbone pads images"
                )
            distillers["feature_distiller"] = feature_class(cfg, student, load_teacher_config(cfg))
        if cfg.KD.STAGE != "feature" and cfg.KD.PREDICTION.WEIGHT > 0:
            prediction_class = PREDICTION_DISTILLER_REGISTRY.get(cfg.KD.PREDICTION.DISTILLER)
            distillers["prediction_distiller"] = prediction_class(cfg)
        return {"student": student, "stage": cfg.KD.STAGE, **distillers}

    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor] | list[dict]:
        """Compute the losses of the stage, or the student's outputs.

        Args:
            batched_inputs: samples for :class:`MultiLabelClassifier`. In training, they also have ``knowledge``
                (:class:`~mlickd.distillation.TeacherKnowledge`), and samples of unlabeled datasets have no ``labels``.

        Returns:
            In training the losses of the stage; at inference the outputs of the student.
        """
        if not self.training:
            return self.student(batched_inputs)
        knowledge = [sample["knowledge"].to(self.student.device) for sample in batched_inputs if "knowledge" in sample]
        images = self.student.preprocess([sample["image"] for sample in batched_inputs])
        features = self.student.backbone(images.tensor)
        if self.stage == "feature":
            return {"loss_feature": self.feature_distiller(features, images.tensor.shape[-2:], knowledge)}
        logits = self.student.head(features)
        samples = batched_inputs
        if self.labeled_fraction < 1:
            all_ignored = {"labels": [], "ignored_labels": list(range(self.student.num_classes))}
            samples = [sample if "labels" in sample else {**sample, **all_ignored} for sample in samples]
        targets = self.student.label_targets(samples)
        # The label loss is a mean over all images of the batch. Dividing by the expected fraction of labeled images
        # makes it, on average, a mean over labeled images, also if a batch is processed in parts.
        losses = {"loss_label": self.student.label_loss(logits, targets) / self.labeled_fraction}
        if self.prediction_distiller is not None:
            losses["loss_soft_label"] = self.prediction_distiller(logits, knowledge)
        if self.feature_distiller is not None:
            loss = self.feature_distiller(features, images.tensor.shape[-2:], knowledge, targets)
            losses["loss_feature"] = loss / self.labeled_fraction if self.feature_distiller.needs_labels else loss
        return losses
