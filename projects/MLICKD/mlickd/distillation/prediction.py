"""Stage 2, prediction-level transfer: distillers that compare image scores. Registered by name."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.utils.registry import Registry
from torch import nn

from mlickd.errors import InputError
from mlickd.modeling.losses import multilabel_binary_cross_entropy_with_logits

from .knowledge import TeacherKnowledge

__all__ = [
    "PREDICTION_DISTILLER_REGISTRY",
    "SoftLabelDistiller",
    "build_prediction_distiller",
    "soft_label_l2_loss",
]

PREDICTION_DISTILLER_REGISTRY = Registry("PREDICTION_DISTILLER")
PREDICTION_DISTILLER_REGISTRY.__doc__ = """
Distillers of stage 2. Called as ``obj(cfg)``; the result is a module called as ``distiller(logits, knowledge)`` that
returns a scalar loss, to which the label loss is added.
"""


def build_prediction_distiller(cfg: CfgNode) -> nn.Module:
    """The distiller that ``KD.PREDICTION.DISTILLER`` names."""
    try:
        distiller = PREDICTION_DISTILLER_REGISTRY.get(cfg.KD.PREDICTION.DISTILLER)
    except KeyError as error:
        known = ", ".join(sorted(name for name, _ in PREDICTION_DISTILLER_REGISTRY))
        raise InputError(f"KD.PREDICTION.DISTILLER {cfg.KD.PREDICTION.DISTILLER!r} is none of {known}") from error
    return distiller(cfg)


def soft_label_l2_loss(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """L_p' of the paper: ``1/(2N) * sum_n || p'^T_n - p'^S_n ||_2^2``, for probabilities (N, C)."""
    return (teacher - student).pow(2).sum() / (2 * len(student))


@PREDICTION_DISTILLER_REGISTRY.register()
class SoftLabelDistiller(nn.Module):
    """The paper's prediction-level transfer: the student's softened probabilities imitate the teacher's image scores.

    ``l2`` is the paper's equation, ``bce`` (binary cross-entropy against the teacher's score) the authors' release.
    The teacher's temperature is applied where its scores are made (``TeacherKnowledge.image_scores``).
    """

    @configurable
    def __init__(self, *, loss: str = "l2", student_temperature: float = 1.0, loss_weight: float = 1.0):
        """
        Args:
            loss: ``l2`` or ``bce``.
            student_temperature: divides the student's logits.
            loss_weight: lambda of the paper.
        """
        super().__init__()
        if loss not in ("l2", "bce"):
            raise InputError(f"KD.PREDICTION.LOSS {loss!r} is none of l2, bce")
        if student_temperature <= 0:
            raise InputError(f"KD.PREDICTION.STUDENT_TEMPERATURE {student_temperature} must be positive")
        self.loss = loss
        self.student_temperature = student_temperature
        self.loss_weight = loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        return {
            "loss": cfg.KD.PREDICTION.LOSS,
            "student_temperature": cfg.KD.PREDICTION.STUDENT_TEMPERATURE,
            "loss_weight": cfg.KD.PREDICTION.WEIGHT,
        }

    def forward(self, logits: torch.Tensor, knowledge: Sequence[TeacherKnowledge]) -> torch.Tensor:
        """The soft loss of the student's logits (N, C), times lambda; an image of no knowledge adds nothing to it."""
        known = [i for i, k in enumerate(knowledge) if k.image_scores is not None]
        if not known:
            return logits.new_zeros(())
        teacher = torch.stack([knowledge[i].image_scores for i in known]).to(logits.dtype)
        softened = logits[known] / self.student_temperature
        if self.loss == "l2":
            loss = soft_label_l2_loss(teacher, softened.sigmoid())
        else:
            # Sums of products of softmaxes pass 1 by rounding.
            loss = multilabel_binary_cross_entropy_with_logits(softened, teacher.clamp(0, 1))
        # Both are means over the images that they are given.
        return self.loss_weight * loss * (len(known) / len(knowledge))
