"""Distillers that compare the binary prediction of each class: Hinton's distillation for multiple labels, and MLD."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from torch import nn
from torch.nn import functional as F

from mlickd.distillation.knowledge import TeacherKnowledge, known_image_scores

from .base import PREDICTION_DISTILLER_REGISTRY

__all__ = ["HintonDistiller", "MLDDistiller", "binary_divergence"]

# A score of 0 or 1 has no finite logit.
_CLAMP = 1e-6


def binary_divergence(teacher: torch.Tensor, student_logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Return the divergence between the binary predictions of teacher and student for each class.

    Args:
        teacher: (N, C) probabilities p; clamped to [1e-6, 1 - 1e-6].
        student_logits: (N, C) logits z.
        temperature: T.

    Returns:
        Scalar: the Kullback-Leibler divergence of binary distributions, ``KL([q, 1 - q] || [s, 1 - s])`` with
        ``q = sigmoid(logit(p) / T)`` and ``s = sigmoid(z / T)``, summed over classes and divided by N.
    """
    logits = teacher.float().clamp(_CLAMP, 1 - _CLAMP).logit() / temperature
    student_logits = student_logits.float() / temperature
    yes, no = logits.sigmoid(), (-logits).sigmoid()
    divergence = yes * (F.logsigmoid(logits) - F.logsigmoid(student_logits))
    divergence = divergence + no * (F.logsigmoid(-logits) - F.logsigmoid(-student_logits))
    return divergence.sum() / len(teacher)


@PREDICTION_DISTILLER_REGISTRY.register()
class HintonDistiller(nn.Module):
    """Distillation of Hinton et al. 2015, with a sigmoid for each class, because an image may have several labels.

    The loss is ``T^2`` times the divergence of the softened probabilities, so that its gradient does not shrink as T
    grows.
    """

    @configurable
    def __init__(self, *, temperature: float = 2.0, loss_weight: float = 1.0):
        """
        Args:
            temperature: T for teacher and student.
            loss_weight: factor on the loss.
        """
        super().__init__()
        self.temperature = temperature
        self.loss_weight = loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Return the arguments from ``KD.PREDICTION``."""
        return {"temperature": cfg.KD.PREDICTION.TEMPERATURE, "loss_weight": cfg.KD.PREDICTION.WEIGHT}

    def forward(self, logits: torch.Tensor, knowledge: Sequence[TeacherKnowledge]) -> torch.Tensor:
        """Return the loss of the student's logits (N, C); images without image scores add 0."""
        known, teacher = known_image_scores(knowledge, logits)
        if not known:
            return logits.new_zeros(())
        loss = self.temperature**2 * binary_divergence(teacher, logits[known], self.temperature)
        return self.loss_weight * loss * (len(known) / len(knowledge))


@PREDICTION_DISTILLER_REGISTRY.register()
class MLDDistiller(HintonDistiller):
    """Multi-label logits distillation (MLD) of Yang et al. 2023, equation 1: the divergence without temperature."""

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Return the arguments from ``KD.PREDICTION``, with temperature 1."""
        return {"temperature": 1.0, "loss_weight": cfg.KD.PREDICTION.WEIGHT}
