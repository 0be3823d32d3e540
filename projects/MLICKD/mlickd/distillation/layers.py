"""Layers of teacher and student that are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from detectron2.layers import ShapeSpec
from torch import nn

from mlickd.errors import InputError

__all__ = ["build_adapter", "check_layers"]


def check_layers(
    pairs: Sequence[tuple[str, str]], teacher: Mapping[str, ShapeSpec], student: Mapping[str, ShapeSpec]
) -> None:
    """InputError where a pair names a layer that the backbones, whose maps are given, do not return."""
    for of_teacher, of_student in pairs:
        for layer, shapes, whose in ((of_teacher, teacher, "teacher"), (of_student, student, "student")):
            if layer not in shapes:
                raise InputError(
                    f"KD.FEATURE.LAYERS: the {whose}'s backbone returns {', '.join(shapes)}, not {layer!r}"
                )


def build_adapter(teacher: ShapeSpec, student: ShapeSpec) -> nn.Module:
    """From the student's map to the width of the teacher's: a 1x1 convolution, or nothing where they are as wide."""
    if teacher.channels == student.channels:
        return nn.Identity()
    return nn.Conv2d(student.channels, teacher.channels, kernel_size=1)
