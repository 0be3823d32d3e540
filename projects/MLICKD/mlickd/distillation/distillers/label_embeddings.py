"""Label-wise embedding distillation (LED) of Yang et al. 2023, "Multi-Label Knowledge Distillation"."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from detectron2.config import CfgNode, configurable
from fvcore.nn.distributed import differentiable_all_gather
from torch import nn
from torch.nn import functional as F

from mlickd.distillation.knowledge import TeacherKnowledge
from mlickd.errors import InputError

from .base import FEATURE_DISTILLER_REGISTRY, FeatureDistiller

# Weight of the instance-aware loss, relative to the class-aware loss, in the configuration of the authors.
INSTANCE_WEIGHT = 10.0


def region_embeddings(features: torch.Tensor, region_scores: torch.Tensor) -> torch.Tensor:
    """Return the teacher's embedding of each class in one image: the mean of its R regions, weighted by their scores.

    Args:
        features: (R, D) vectors, or (R, D, P, P) pooled maps, which are averaged over their cells.
        region_scores: (R, C), nonnegative.

    Returns:
        (C, D).
    """
    vectors = features.float().flatten(2).mean(dim=2) if features.dim() == 4 else features.float()
    weights = region_scores / region_scores.sum(dim=0).clamp(min=torch.finfo(region_scores.dtype).tiny)
    return weights.T @ vectors


def class_activation_embeddings(feature_map: torch.Tensor, classifier: torch.Tensor) -> torch.Tensor:
    """Return the student's embedding of each class: the weighted mean of the map's cells.

    For each class, the weights are a softmax of its scores over the cells.

    Args:
        feature_map: (N, D, H, W) map that the student classifies.
        classifier: (C, D) weights of the linear classifier.

    Returns:
        (N, C, D). The embeddings add no parameters, so the student does not change at inference.
    """
    cells = feature_map.float().flatten(2)
    weights = (classifier.float() @ cells).softmax(dim=2)
    return weights @ cells.transpose(1, 2)


def structure_loss(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """Return the difference between the relative distances of teacher and student.

    The relative distance of two embeddings is their distance divided by the mean distance in the same network.

    Args:
        teacher: (P, D).
        student: (P, D'); the width may differ.

    Returns:
        Scalar: the Huber loss (delta 1) of all P x P relative distances, summed and divided by P.
    """
    distances = F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher), reduction="sum")
    return distances / len(teacher)


def label_embedding_loss(teacher: torch.Tensor, student: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """Return the loss of LED, which uses only the embeddings of positive labels.

    Args:
        teacher: (N, C, D).
        student: (N, C, D').
        positive: (N, C) bool.

    Returns:
        Scalar: the class-aware loss, plus ``INSTANCE_WEIGHT`` times the instance-aware loss, divided by N. The first is
        the sum of the :func:`structure_loss` of each class's positive images, for classes with at least two. The second
        is the sum of the :func:`structure_loss` of each image's positive labels, for images with at least two.
    """
    class_aware, instance_aware = student.new_zeros(()), student.new_zeros(())
    for label in (positive.sum(dim=0) > 1).nonzero().flatten().tolist():
        images = positive[:, label]
        class_aware = class_aware + structure_loss(teacher[images, label], student[images, label])
    for image in (positive.sum(dim=1) > 1).nonzero().flatten().tolist():
        labels = positive[image]
        instance_aware = instance_aware + structure_loss(teacher[image, labels], student[image, labels])
    return (class_aware + INSTANCE_WEIGHT * instance_aware) / len(positive)


@FEATURE_DISTILLER_REGISTRY.register()
class LabelEmbeddingDistiller(FeatureDistiller):
    """LED: the student's label embeddings have the same relative distances as the teacher's label embeddings.

    The paper's networks have an encoder with a query for each label. Here both networks get label embeddings without an
    encoder: the teacher from its regions and their scores, the student from its map and its classifier. The widths of
    the embeddings may differ.
    """

    knowledge_kind: ClassVar[str] = "regions"
    needs_labels: ClassVar[bool] = True

    @configurable
    def __init__(self, *, classifier: nn.Linear, in_feature: str, **base_arguments):
        """
        Args:
            classifier: linear classifier of the student.
            in_feature: name of the student's map that the classifier takes.
            base_arguments: arguments of :class:`FeatureDistiller`, with exactly one pair.
        """
        super().__init__(**base_arguments)
        if len(self.pairs) != 1 or self.pairs[0][1] != in_feature:
            raise InputError(
                f"KD.FEATURE.LAYERS {[':'.join(pair) for pair in self.pairs]}: use exactly one pair, "
                f"with the map that the student classifies: '<teacher layer>:{in_feature}'"
            )
        ((self.teacher_layer, self.student_layer),) = self.pairs
        # In a tuple, so that it is not a submodule: it belongs to the student.
        self._classifier = (classifier,)

    @classmethod
    def from_config(cls, cfg: CfgNode, student: nn.Module, teacher_cfg: CfgNode) -> dict:
        """Return the arguments from ``KD``, the student and the teacher's configuration."""
        if student.head.fully_connected is not None:
            raise InputError(
                "MODEL.CLASSIFIER.POOLING fc: label embeddings need a classifier on the map itself; set it to "
                "average or max, or choose another KD.FEATURE.DISTILLER"
            )
        return super().from_config(cfg, student, teacher_cfg) | {
            "classifier": student.head.linear,
            "in_feature": student.head.in_feature,
        }

    def forward(
        self,
        features: dict[str, torch.Tensor],
        image_size: tuple[int, int],
        knowledge: Sequence[TeacherKnowledge],
        targets: torch.Tensor,
    ) -> torch.Tensor:
        """See :class:`FeatureDistiller`; both losses ignore the labels of views without regions."""
        (classifier,) = self._classifier
        # Relative distances need full precision, even in mixed precision.
        with torch.autocast(device_type=targets.device.type, enabled=False):
            student = class_activation_embeddings(features[self.student_layer], classifier.weight)
            teacher = torch.stack(
                [region_embeddings(k.features[self.teacher_layer], k.region_scores) for k in knowledge]
            )
            has_regions = torch.tensor([len(k.region_scores) > 0 for k in knowledge], device=targets.device)
            positive = (targets == 1) & has_regions[:, None]
            # Compare the images of the whole batch, including the images of other processes.
            gathered = (torch.cat(differentiable_all_gather(values)) for values in (teacher, student, positive))
            return self.loss_weight * label_embedding_loss(*gathered)


def _relative_distances(embeddings: torch.Tensor) -> torch.Tensor:
    """Return the (P, P) distances divided by the mean distance; zeros if all embeddings are equal."""
    distances = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")
    count = len(embeddings)
    mean = distances.sum() / (count * (count - 1))
    return distances / mean.clamp(min=torch.finfo(distances.dtype).eps)
