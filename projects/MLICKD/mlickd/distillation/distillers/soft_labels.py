"""Prediction-level transfer (stage 2 of the paper): the student's image scores imitate the teacher's scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from torch import nn

from mlickd.distillation.knowledge import TeacherKnowledge, known_image_scores
from mlickd.modeling.losses import multilabel_binary_cross_entropy_with_logits

from .base import PREDICTION_DISTILLER_REGISTRY

__all__ = ["SoftLabelDistiller", "soft_label_l2_loss"]


def soft_label_l2_loss(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """Return L_p' of the paper, ``1/(2N) * sum_n || p'^T_n - p'^S_n ||_2^2``, for probabilities (N, C)."""
    return (teacher - student).pow(2).sum() / (2 * len(student))


@PREDICTION_DISTILLER_REGISTRY.register()
class SoftLabelDistiller(nn.Module):
    """The paper's prediction-level transfer: the student's softened probabilities imitate the teacher's image scores.

    ``l2`` is the paper's equation; the authors' release uses ``bce``, binary cross-entropy with the teacher's score as
    target. The teacher's temperature is applied when its scores are computed (``TeacherKnowledge.image_scores``).
    """

    @configurable
    def __init__(self, *, loss: str = "l2", student_temperature: float = 1.0, loss_weight: float = 1.0):
        """
        Args:
            loss: ``l2`` or ``bce``.
            student_temperature: divisor of the student's logits.
            loss_weight: lambda of the paper.
        """
        super().__init__()
        self.loss = loss
        self.student_temperature = student_temperature
        self.loss_weight = loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Return the arguments from ``KD.PREDICTION``."""
        return {
            "loss": cfg.KD.PREDICTION.LOSS,
            "student_temperature": cfg.KD.PREDICTION.STUDENT_TEMPERATURE,
            "loss_weight": cfg.KD.PREDICTION.WEIGHT,
        }

    def forward(self, logits: torch.Tensor, knowledge: Sequence[TeacherKnowledge]) -> torch.Tensor:
        """Return the loss of the student's logits (N, C), times lambda. Images without image scores add 0."""
        known, teacher = known_image_scores(knowledge, logits)
        if not known:
            return logits.new_zeros(())
        softened = logits[known] / self.student_temperature
        if self.loss == "l2":
            loss = soft_label_l2_loss(teacher, softened.sigmoid())
        else:
            loss = multilabel_binary_cross_entropy_with_logits(softened, teacher)
        # Both losses are means over the images with image scores.
        return self.loss_weight * loss * (len(known) / len(knowledge))
