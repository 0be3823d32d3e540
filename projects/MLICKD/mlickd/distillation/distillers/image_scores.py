"""Prediction-level transfer (stage 2 of the paper), and Hinton's distillation for multiple labels."""

import torch
from detectron2.config import CfgNode, configurable
from torch.nn import functional as F

from mlickd.modeling.losses import multilabel_bce

from .base import PREDICTION_DISTILLER_REGISTRY, PredictionDistiller

# Distance of clamped scores from 0 and 1, which have no finite logit.
_CLAMP = 1e-6


def soft_label_l2_loss(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """Return L_p' of the paper, ``1/(2N) * sum_n || p'^T_n - p'^S_n ||_2^2``, for probabilities (N, C)."""
    return (teacher - student).pow(2).sum() / (2 * len(student))


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
class SoftLabelDistiller(PredictionDistiller):
    """The paper's prediction-level transfer: the student's softened probabilities imitate the teacher's image scores.

    ``l2`` is the paper's equation; the authors' release uses ``bce``, binary cross-entropy with the teacher's score as
    target. The teacher's temperature is applied when its scores are computed (``TeacherKnowledge.image_scores``).
    """

    @configurable
    def __init__(self, *, loss: str = "l2", student_temperature: float = 1.0, **base_arguments):
        """
        Args:
            loss: ``l2`` or ``bce``.
            student_temperature: divisor of the student's logits.
            base_arguments: arguments of :class:`PredictionDistiller`.
        """
        super().__init__(**base_arguments)
        self.loss = loss
        self.student_temperature = student_temperature

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Return the arguments from ``KD.PREDICTION``."""
        options = {"loss": cfg.KD.PREDICTION.LOSS, "student_temperature": cfg.KD.PREDICTION.STUDENT_TEMPERATURE}
        return super().from_config(cfg) | options

    def compare(self, teacher: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Return L_p' or the binary cross-entropy, see :class:`PredictionDistiller`."""
        softened = logits / self.student_temperature
        if self.loss == "l2":
            return soft_label_l2_loss(teacher, softened.sigmoid())
        return multilabel_bce(softened, teacher)


@PREDICTION_DISTILLER_REGISTRY.register()
class HintonDistiller(PredictionDistiller):
    """Distillation of Hinton et al. 2015, with a sigmoid for each class, because an image may have several labels.

    The loss is ``T^2`` times the divergence of the softened probabilities, so that its gradient does not shrink as T
    grows. With T = 1, it is the loss of multi-label logits distillation (MLD, Yang et al. 2023, equation 1).
    """

    @configurable
    def __init__(self, *, temperature: float = 2.0, **base_arguments):
        """
        Args:
            temperature: T for teacher and student.
            base_arguments: arguments of :class:`PredictionDistiller`.
        """
        super().__init__(**base_arguments)
        self.temperature = temperature

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Return the arguments from ``KD.PREDICTION``."""
        return super().from_config(cfg) | {"temperature": cfg.KD.PREDICTION.TEMPERATURE}

    def compare(self, teacher: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Return ``T^2`` times :func:`binary_divergence`, see :class:`PredictionDistiller`."""
        return self.temperature**2 * binary_divergence(teacher, logits, self.temperature)
