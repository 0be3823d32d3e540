"""Registries and base classes of the distillers of features and of image scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import nn

from mlickd.distillation.knowledge import TeacherKnowledge
from mlickd.errors import InputError
from mlickd.modeling.checkpoint import model_blueprint

FEATURE_DISTILLER_REGISTRY = Registry("FEATURE_DISTILLER")
FEATURE_DISTILLER_REGISTRY.__doc__ = """
Distillers of feature maps, for stage 1, or for stage 2 in addition to the labels. They are built by
``obj(cfg, student, teacher_cfg)``, with the student's model and the teacher's configuration. The result is a module
with the call signature of :class:`FeatureDistiller`.
"""

PREDICTION_DISTILLER_REGISTRY = Registry("PREDICTION_DISTILLER")
PREDICTION_DISTILLER_REGISTRY.__doc__ = """
Distillers of image scores, for stage 2. They are built by ``obj(cfg)``. The result is a module with the call
signature of :class:`PredictionDistiller`. The model adds the label loss.
"""


def feature_distiller_class(cfg: CfgNode) -> type[FeatureDistiller]:
    """Return the class that ``KD.FEATURE.DISTILLER`` names."""
    return FEATURE_DISTILLER_REGISTRY.get(cfg.KD.FEATURE.DISTILLER)


def parse_layer_pairs(cfg: CfgNode) -> list[tuple[str, str]]:
    """Return ``KD.FEATURE.LAYERS`` as pairs (teacher's layer, student's layer).

    Raises:
        InputError: an entry is not ``teacher:student``, or the list is empty.
    """
    pairs = [tuple(str(entry).split(":")) for entry in cfg.KD.FEATURE.LAYERS]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise InputError(
            f"KD.FEATURE.LAYERS {list(cfg.KD.FEATURE.LAYERS)}: write each entry as '<teacher layer>:<student layer>'"
        )
    return pairs


class FeatureDistiller(nn.Module, ABC):
    """Base class of the distillers of features: a loss on pairs of a teacher's and a student's feature map.

    Attributes:
        knowledge_kind: kind of knowledge that the distiller needs: ``regions``, or a key of ``MAP_KINDS`` for whole
            maps.
        needs_labels: whether the distiller works only with labels, in stage 2.
        pairs: pairs of names (teacher's map, student's map).
        shapes: pairs of shapes (teacher's map, student's map).
    """

    knowledge_kind: ClassVar[str]
    needs_labels: ClassVar[bool] = False

    def __init__(
        self,
        *,
        pairs: Sequence[tuple[str, str]],
        teacher_shapes: dict[str, ShapeSpec],
        student_shapes: dict[str, ShapeSpec],
        loss_weight: float = 1.0,
    ):
        """Select the shapes of ``pairs`` from the shapes of all maps of the backbones."""
        super().__init__()
        for pair in pairs:
            for owner, name, shapes in zip(("teacher", "student"), pair, (teacher_shapes, student_shapes), strict=True):
                if name not in shapes:
                    found = f"the {owner}'s backbone does not return {name!r}; name one of {', '.join(shapes)}"
                    raise InputError(f"KD.FEATURE.LAYERS: {found}")
        self.pairs = list(pairs)
        self.shapes = [(teacher_shapes[t], student_shapes[s]) for t, s in pairs]
        self.loss_weight = loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode, student: nn.Module, teacher_cfg: CfgNode) -> dict[str, Any]:
        """Return the arguments from ``KD.FEATURE``, the student and the teacher's configuration."""
        return {
            "pairs": parse_layer_pairs(cfg),
            "teacher_shapes": model_blueprint(teacher_cfg).backbone.output_shape(),
            "student_shapes": student.backbone.output_shape(),
            "loss_weight": cfg.KD.FEATURE.WEIGHT,
        }

    @abstractmethod
    def forward(
        self,
        features: dict[str, torch.Tensor],
        image_size: tuple[int, int],
        knowledge: Sequence[TeacherKnowledge],
        targets: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the loss times ``loss_weight``, a scalar.

        Args:
            features: the student's feature maps for N images, (N, channels, h, w) each.
            image_size: height and width of the student's views.
            knowledge: knowledge of the same N views, with the features or maps of ``knowledge_kind``.
            targets: (N, C) image labels, 1, 0 or -1 (ignored); None only if ``needs_labels`` is False.
        """


class PredictionDistiller(nn.Module, ABC):
    """Base class of the distillers of image scores: a loss on the images whose image scores the teacher knows."""

    @configurable
    def __init__(self, *, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the arguments from ``KD.PREDICTION``."""
        return {"loss_weight": cfg.KD.PREDICTION.WEIGHT}

    def forward(self, logits: torch.Tensor, knowledge: Sequence[TeacherKnowledge]) -> torch.Tensor:
        """Return the loss times ``loss_weight``, a scalar: a mean over the views. Views without image scores add 0.

        Args:
            logits: (N, C) logits of the student.
            knowledge: knowledge of the same N views.
        """
        known = [i for i, k in enumerate(knowledge) if k.image_scores is not None]
        if not known:
            return logits.new_zeros(())
        # Rounding may put sums of products of softmaxes above 1.
        teacher = torch.stack([knowledge[i].image_scores for i in known]).to(logits.dtype).clamp(0, 1)
        return self.loss_weight * self.compare(teacher, logits[known]) * (len(known) / len(knowledge))

    @abstractmethod
    def compare(self, teacher: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of K views, given the teacher's image scores and the student's logits, (K, C) each."""


def build_adapter(teacher: ShapeSpec, student: ShapeSpec) -> nn.Module:
    """Build a 1x1 convolution from the student's to the teacher's width, or the identity if the widths are equal."""
    if teacher.channels == student.channels:
        return nn.Identity()
    return nn.Conv2d(student.channels, teacher.channels, kernel_size=1)
