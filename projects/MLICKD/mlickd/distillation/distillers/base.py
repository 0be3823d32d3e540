"""The registries of distillers, and what all distillers of features share: pairs of layers of teacher and student."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import nn

from mlickd.distillation.knowledge import TeacherKnowledge
from mlickd.distillation.teacher_config import teacher_shapes
from mlickd.errors import InputError

__all__ = [
    "FEATURE_DISTILLER_REGISTRY",
    "PREDICTION_DISTILLER_REGISTRY",
    "FeatureDistiller",
    "build_adapter",
    "check_layers",
    "feature_distiller_class",
    "parse_layer_pairs",
    "prediction_distiller_class",
]

FEATURE_DISTILLER_REGISTRY = Registry("FEATURE_DISTILLER")
FEATURE_DISTILLER_REGISTRY.__doc__ = """
Distillers of feature maps, for stage 1, or for stage 2 in addition to the labels. Called as
``obj(cfg, student, teacher_cfg)`` with the student's model and the teacher's configuration. The result is a module
called as ``distiller(features, image_sizes, knowledge, targets)`` that returns a scalar loss; ``targets`` is None
without labels. The class attribute ``asks_for`` names what the teacher gives, see :class:`KnowledgeRequest`, and
``needs_labels`` is whether the distiller works only with labels.
"""

PREDICTION_DISTILLER_REGISTRY = Registry("PREDICTION_DISTILLER")
PREDICTION_DISTILLER_REGISTRY.__doc__ = """
Distillers of image scores, for stage 2. Called as ``obj(cfg)``. The result is a module called as
``distiller(logits, knowledge)`` that returns a scalar loss, to which the label loss is added.
"""


def feature_distiller_class(cfg: CfgNode) -> type[nn.Module]:
    """Return the class that ``KD.FEATURE.DISTILLER`` names."""
    return _registered(FEATURE_DISTILLER_REGISTRY, "KD.FEATURE.DISTILLER", cfg.KD.FEATURE.DISTILLER)


def prediction_distiller_class(cfg: CfgNode) -> type[nn.Module]:
    """Return the class that ``KD.PREDICTION.DISTILLER`` names."""
    return _registered(PREDICTION_DISTILLER_REGISTRY, "KD.PREDICTION.DISTILLER", cfg.KD.PREDICTION.DISTILLER)


def _registered(registry: Registry, key: str, name: str) -> type[nn.Module]:
    try:
        return registry.get(name)
    except KeyError as error:
        known = ", ".join(sorted(name for name, _ in registry))
        raise InputError(f"{key} {name!r} must be one of {known}") from error


def parse_layer_pairs(cfg: CfgNode) -> list[tuple[str, str]]:
    """Return ``KD.FEATURE.LAYERS`` as pairs (teacher's layer, student's layer).

    Raises:
        InputError: an entry is not ``teacher:student``, or the number of entries does not fit the distiller.
    """
    pairs = [tuple(entry.split(":")) for entry in cfg.KD.FEATURE.LAYERS]
    compares_regions = feature_distiller_class(cfg).asks_for == "regions"
    single = compares_regions and cfg.KD.FEATURE.COMPARE == "box_head"
    if not pairs or any(len(pair) != 2 for pair in pairs) or (single and len(pairs) > 1):
        raise InputError(
            f"KD.FEATURE.LAYERS {list(cfg.KD.FEATURE.LAYERS)}: give each entry as '<teacher layer>:<student layer>', "
            "and only one entry with KD.FEATURE.COMPARE box_head"
        )
    return pairs


def check_layers(names: Iterable[str], shapes: dict[str, ShapeSpec], owner: str) -> None:
    """Check that the backbone of an owner, ``teacher`` or ``student``, returns maps of these names.

    Raises:
        InputError: it does not return one of them.
    """
    for name in names:
        if name not in shapes:
            raise InputError(
                f"KD.FEATURE.LAYERS: the {owner}'s backbone does not return {name!r}; name one of {', '.join(shapes)}"
            )


class FeatureDistiller(nn.Module, ABC):
    """Base of the distillers of features: pairs of layers, and a factor on the loss.

    Attributes:
        asks_for: what the teacher gives, ``regions`` or a key of ``MAP_KINDS``.
        needs_labels: the distiller works only with labels, in stage 2.
        pairs: names of a teacher's and a student's map each.
        shapes: shapes of the teacher's and the student's map of each pair.
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
            teacher_shapes, student_shapes: shapes of all maps of the backbones.
            loss_weight: factor on the loss.
        """
        super().__init__()
        check_layers([teacher for teacher, _ in pairs], teacher_shapes, "teacher")
        check_layers([student for _, student in pairs], student_shapes, "student")
        self.pairs = list(pairs)
        self.shapes = [(teacher_shapes[t], student_shapes[s]) for t, s in pairs]
        self.loss_weight = loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode, student: nn.Module, teacher_cfg: CfgNode) -> dict[str, Any]:
        """Return the arguments from ``KD.FEATURE``, the student and the teacher's configuration."""
        return {
            "pairs": parse_layer_pairs(cfg),
            "teacher_shapes": teacher_shapes(teacher_cfg),
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
        """Return the loss times ``loss_weight``, a scalar.

        Args:
            features: the student's maps of N images, (N, channels, h, w) each.
            image_sizes: height and width of each view of the student.
            knowledge: knowledge of the same N views, with what the class asks for.
            targets: (N, C) image labels, 1, 0 or -1 (ignored); needed by a class that needs labels.
        """


def build_adapter(teacher: ShapeSpec, student: ShapeSpec) -> nn.Module:
    """Build the layer from the student's map to the width of the teacher's: a 1x1 convolution, or the identity if both
    have the same width."""
    if teacher.channels == student.channels:
        return nn.Identity()
    return nn.Conv2d(student.channels, teacher.channels, kernel_size=1)
