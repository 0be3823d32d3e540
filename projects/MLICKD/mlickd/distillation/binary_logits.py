"""Baselines that compare each class apart, as a choice of two: Hinton's distillation for multi-label, and MLD."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from torch import nn
from torch.nn import functional as F

from mlickd.errors import InputError

from .knowledge import TeacherKnowledge, known_image_scores
from .registry import PREDICTION_DISTILLER_REGISTRY

__all__ = ["HintonDistiller", "MLDDistiller", "binary_divergence"]

# A teacher's score of 0 or 1 has no logit.
_CLAMP = 1e-6


def binary_divergence(teacher: torch.Tensor, student_logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """How far the student's answer to each class, yes or no, is from the teacher's.

    Args:
        teacher: (N, C) probabilities; cut to [1e-6, 1 - 1e-6].
        student_logits: (N, C).
        temperature: T, which divides both logits; the teacher's is ``log(p / (1 - p))``.

    Returns:
        Scalar: the Kullback-Leibler divergence of two-valued distributions, ``KL([q, 1 - q] || [s, 1 - s])`` with
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
    """Hinton et al. 2015 with a sigmoid for each class: a softmax over labels that occur together would be wrong.

    ``T^2`` times the divergence of the softened probabilities, so that its gradient does not shrink with T.
    """

    @configurable
    def __init__(self, *, temperature: float = 2.0, loss_weight: float = 1.0):
        """
        Args:
            temperature: T of teacher and student.
            loss_weight: factor on the loss.
        """
        super().__init__()
        if temperature <= 0:
            raise InputError(f"KD.PREDICTION.TEMPERATURE {temperature} must be positive; give such a number")
        self.temperature = temperature
        self.loss_weight = loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """From ``KD.PREDICTION``."""
        return {"temperature": cfg.KD.PREDICTION.TEMPERATURE, "loss_weight": cfg.KD.PREDICTION.WEIGHT}

    def forward(self, logits: torch.Tensor, knowledge: Sequence[TeacherKnowledge]) -> torch.Tensor:
        """The loss of the student's logits (N, C); an image of which the teacher knows nothing adds nothing to it."""
        known, teacher = known_image_scores(knowledge, logits)
        if not known:
            return logits.new_zeros(())
        loss = self.temperature**2 * binary_divergence(teacher, logits[known], self.temperature)
        return self.loss_weight * loss * (len(known) / len(knowledge))


@PREDICTION_DISTILLER_REGISTRY.register()
class MLDDistiller(HintonDistiller):
    """Multi-label logits distillation (MLD) of Yang et al. 2023, equation 1: one against all, without temperature."""

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """From ``KD.PREDICTION``; its temperature is not asked for."""
        return {"temperature": 1.0, "loss_weight": cfg.KD.PREDICTION.WEIGHT}
