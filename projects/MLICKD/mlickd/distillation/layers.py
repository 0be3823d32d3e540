"""Layers of teacher and student that are compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import nn

from mlickd.errors import InputError

from .knowledge import TeacherKnowledge
from .request import parse_layer_pairs
from .teacher import load_teacher_config, teacher_shapes

__all__ = ["FeatureDistiller", "build_adapter"]


class FeatureDistiller(nn.Module, ABC):
    """What all distillers of features have: pairs of layers, and a factor on their loss.

    Attributes:
        asks_for: what the teacher is to give, ``regions`` or a key of ``MAP_KINDS``.
        needs_labels: it works beside the labels alone.
        pairs: names of a teacher's and a student's map each.
        shapes: of the teacher's and the student's map of each pair.
    """

    asks_for: ClassVar[str]
    needs_labels: ClassVar[bool] = False

    def __init__(
        self,
        *,
        pairs: Sequence[tuple[str, str]],
        teacher_shapes: dict[str, ShapeSpec],
        student_shapes: dict[str, ShapeSpec],
        loss_weight: float = 1.0,
    ):
        """
        Args:
            pairs: names of a teacher's and a student's map each.
            teacher_shapes, student_shapes: of all maps of the backbones.
            loss_weight: factor on the loss.

        Raises:
            InputError: a pair names a map that its backbone does not return.
        """
        super().__init__()
        for names in pairs:
            for name, shapes, whose in zip(
                names, (teacher_shapes, student_shapes), ("teacher", "student"), strict=True
            ):
                if name not in shapes:
                    raise InputError(
                        f"KD.FEATURE.LAYERS: the {whose}'s backbone does not return {name!r}; name one of "
                        f"{', '.join(shapes)}"
                    )
        self.pairs = list(pairs)
        self.shapes = [(teacher_shapes[t], student_shapes[s]) for t, s in pairs]
        self.loss_weight = loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode, student: nn.Module) -> dict[str, Any]:
        """From ``KD.FEATURE``, the teacher's configuration and the student; InputError where they do not fit."""
        return {
            "pairs": parse_layer_pairs(cfg),
            "teacher_shapes": teacher_shapes(load_teacher_config(cfg)),
            "student_shapes": student.backbone.output_shape(),
            "loss_weight": cfg.KD.FEATURE.WEIGHT,
        }

    @abstractmethod
    def forward(
        self,
        features: dict[str, torch.Tensor],
        image_sizes: Sequence[tuple[int, int]],
        knowledge: Sequence[TeacherKnowledge],
        targets: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Args:
            features: the student's maps of N images, (N, channels, h, w) each.
            image_sizes: height and width of each view of the student.
            knowledge: of the same N views, with what the class asks for.
            targets: (N, C) image labels, 1, 0 or -1 (ignored); needed by a class that needs labels.

        Returns:
            Scalar, the loss times ``loss_weight``.
        """


def build_adapter(teacher: ShapeSpec, student: ShapeSpec) -> nn.Module:
    """From the student's map to the width of the teacher's: a 1x1 convolution, or nothing where they are as wide."""
    if teacher.channels == student.channels:
        return nn.Identity()
    return nn.Conv2d(student.channels, teacher.channels, kernel_size=1)
