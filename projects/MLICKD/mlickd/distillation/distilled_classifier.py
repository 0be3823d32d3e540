"""A student in training with its teacher's knowledge."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from mlickd.data.build import labelled_share
from mlickd.errors import InputError
from mlickd.modeling.meta_arch import MultiLabelClassifier

from .feature import build_feature_distiller
from .prediction import build_prediction_distiller

__all__ = ["DistilledClassifier", "KD_STAGES"]

KD_STAGES = ("feature", "prediction")


@META_ARCH_REGISTRY.register()
class DistilledClassifier(nn.Module):
    """A student and the distillers of one stage.

    Knowledge is data: each training sample carries a :class:`~mlickd.distillation.TeacherKnowledge` under
    ``knowledge`` (see :class:`~mlickd.distillation.DistillationHook`), and no teacher is part of this model. At
    inference it is its student, nothing else; ``student.state_dict()`` is a checkpoint of the plain classifier.

    - Stage ``feature``: only the backbone of the student (its convolutions with their normalisation) and the
      distiller's adapters get gradients; fc layers and the classifier rest. Needs no labels.
    - Stage ``prediction``: everything gets gradients, from the labels and the teacher's image scores.
    """

    @configurable
    def __init__(self, *, student: MultiLabelClassifier, stage: str, distiller: nn.Module, labelled_share: float = 1.0):
        """
        Args:
            student: the classifier.
            stage: ``feature`` or ``prediction``.
            distiller: from the registry of that stage.
            labelled_share: of the training images, those that have labels; above 0. The label loss is a mean over
                these.
        """
        super().__init__()
        if stage not in KD_STAGES:
            raise InputError(f"KD.STAGE {stage!r} is none of {', '.join(KD_STAGES)}; give --kd-stage")
        self.student = student
        self.stage = stage
        self.distiller = distiller
        self.labelled_share = labelled_share
        if stage == "feature":
            self.student.head.requires_grad_(False)

    def train(self, mode: bool = True) -> DistilledClassifier:
        """As in PyTorch, but in stage ``feature`` the student's head rests, its dropout too."""
        super().train(mode)
        if self.stage == "feature":
            self.student.head.eval()
        return self

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        student = MultiLabelClassifier(cfg)
        if cfg.KD.STAGE == "feature":
            distiller = build_feature_distiller(cfg, student)
        else:
            distiller = build_prediction_distiller(cfg)
        return {
            "student": student,
            "stage": cfg.KD.STAGE,
            "distiller": distiller,
            "labelled_share": labelled_share(cfg),
        }

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.student.device

    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor] | list[dict]:
        """
        Args:
            batched_inputs: samples as :class:`MultiLabelClassifier` takes them; in training with ``knowledge``, and
                those of unlabelled data sets without ``labels``.

        Returns:
            In training the losses of the stage; at inference what the student returns.
        """
        if not self.training:
            return self.student(batched_inputs)
        knowledge = [sample["knowledge"].to(self.device) for sample in batched_inputs]
        images = self.student.preprocess([sample["image"] for sample in batched_inputs])
        features = self.student.backbone(images.tensor)
        if self.stage == "feature":
            return {"loss_feature": self.distiller(features, images.image_sizes, knowledge)}
        logits = self.student.head(features)
        return self._label_losses(logits, batched_inputs) | {"loss_soft_label": self.distiller(logits, knowledge)}

    def _label_losses(self, logits: torch.Tensor, batched_inputs: list[dict]) -> dict[str, torch.Tensor]:
        """The student's, summed over the labelled samples and divided by how many are expected of so many samples.

        On average that is the mean over them, and it stays what it is where a batch is run in parts.
        """
        if self.labelled_share == 1:
            return self.student.label_losses(logits, batched_inputs)
        labelled = [index for index, sample in enumerate(batched_inputs) if "labels" in sample]
        if not labelled:
            return {"loss_label": logits.sum() * 0.0}
        losses = self.student.label_losses(logits[labelled], [batched_inputs[index] for index in labelled])
        factor = len(labelled) / (len(batched_inputs) * self.labelled_share)
        return {name: loss * factor for name, loss in losses.items()}
