"""Distillers that compare whole feature maps: FitNets and attention transfer."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from detectron2.config import configurable
from torch import nn
from torch.nn import functional as F

from mlickd.distillation.knowledge import TeacherKnowledge

from .base import FEATURE_DISTILLER_REGISTRY, FeatureDistiller, build_adapter


def hint_loss(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """Return the hint loss of FitNets (Romero et al. 2015, equation 3): half the squared distance of two maps.

    Args:
        teacher, student: (N, D, H, W).

    Returns:
        Scalar: ``1/(2N) * sum_n 1/(HW) * || F^T_n - F^S_n ||_2^2``. The mean over the cells makes the loss independent
        of the size of the view.
    """
    cells = teacher.shape[-2] * teacher.shape[-1]
    return (teacher - student).pow(2).sum() / (2 * len(teacher) * cells)


def spatial_attention(feature_map: torch.Tensor) -> torch.Tensor:
    """Return the spatial attention (Zagoruyko & Komodakis 2017): the normalized sum of squares over the channels.

    Args:
        feature_map: (N, D, H, W).

    Returns:
        (N, 1, H, W) float32, with L2 norm 1 over all cells of an image; zeros if the map is zero.
    """
    energy = feature_map.float().pow(2).sum(dim=1, keepdim=True)
    return F.normalize(energy.flatten(1)).view_as(energy)


def attention_transfer_loss(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """Return the distance of two attention maps (Zagoruyko & Komodakis 2017, equation 2, with p = 2).

    Args:
        teacher, student: (N, 1, H, W), see :func:`spatial_attention`.

    Returns:
        Scalar: ``1/(2N) * sum_n || Q^T_n - Q^S_n ||_2``.
    """
    return torch.linalg.vector_norm((teacher - student).flatten(1), dim=1).sum() / (2 * len(teacher))


class _MapDistiller(FeatureDistiller):
    """Compares pairs of whole maps; the losses of the pairs are added."""

    needs_adapter: ClassVar[bool]

    @configurable
    def __init__(self, **base_arguments):
        """See :class:`FeatureDistiller` for the arguments."""
        super().__init__(**base_arguments)
        self.adapters = nn.ModuleList(
            build_adapter(*shapes) if self.needs_adapter else nn.Identity() for shapes in self.shapes
        )

    def forward(
        self,
        features: dict[str, torch.Tensor],
        image_size: tuple[int, int],
        knowledge: Sequence[TeacherKnowledge],
        targets: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See :class:`FeatureDistiller`; uses only ``features`` and ``knowledge``."""
        losses = []
        for (teacher_layer, student_layer), adapter in zip(self.pairs, self.adapters, strict=True):
            teacher = torch.stack([k.maps[self.knowledge_kind, teacher_layer].float() for k in knowledge])
            losses.append(self.compare(teacher, adapter(features[student_layer]).float()))
        return self.loss_weight * sum(losses)

    @abstractmethod
    def compare(self, teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
        """Return the loss between the teacher's map and the adapted map of the student."""


@FEATURE_DISTILLER_REGISTRY.register()
class FitNetsDistiller(_MapDistiller):
    """FitNets (Romero et al. 2015): the student's whole map imitates the teacher's map.

    A 1x1 convolution adapts the student's map if the widths differ. The map is then resized to the teacher's map.
    """

    knowledge_kind: ClassVar[str] = "features"
    needs_adapter: ClassVar[bool] = True

    def compare(self, teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
        """See :func:`hint_loss`."""
        student = F.interpolate(student, size=teacher.shape[-2:], mode="bilinear", align_corners=False)
        return hint_loss(teacher, student)


@FEATURE_DISTILLER_REGISTRY.register()
class AttentionTransferDistiller(_MapDistiller):
    """Attention transfer (Zagoruyko & Komodakis 2017): the student's attention imitates the teacher's attention.

    Average pooling reduces the teacher's attention to the size of the student's map.
    """

    knowledge_kind: ClassVar[str] = "attention"
    needs_adapter: ClassVar[bool] = False

    def compare(self, teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
        """See :func:`attention_transfer_loss`."""
        teacher = F.adaptive_avg_pool2d(teacher, student.shape[-2:])
        teacher = F.normalize(teacher.flatten(1)).view_as(teacher)
        return attention_transfer_loss(teacher, spatial_attention(student))
