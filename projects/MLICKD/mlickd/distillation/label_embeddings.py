"""Label-wise embedding distillation (LED) of Yang et al. 2023, "Multi-Label Knowledge Distillation"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from detectron2.config import CfgNode, configurable
from torch import nn
from torch.nn import functional as F

from mlickd.errors import InputError

from .batch_of_processes import gathered, with_whole_gradient
from .knowledge import TeacherKnowledge
from .layers import FeatureDistiller
from .registry import FEATURE_DISTILLER_REGISTRY

__all__ = [
    "LabelEmbeddingDistiller",
    "class_activation_embeddings",
    "label_embedding_loss",
    "region_embeddings",
    "structure_loss",
]


def region_embeddings(features: torch.Tensor, region_scores: torch.Tensor) -> torch.Tensor:
    """What a teacher of regions says of each class of one image: the mean of the regions R' by their scores.

    Args:
        features: (R, D) or (R, D, P, P), which is averaged over its cells.
        region_scores: (R, C), not negative.

    Returns:
        (C, D).
    """
    vectors = features.float().flatten(2).mean(dim=2) if features.dim() == 4 else features.float()
    weights = region_scores / region_scores.sum(dim=0).clamp(min=torch.finfo(region_scores.dtype).tiny)
    return weights.T @ vectors


def class_activation_embeddings(feature_map: torch.Tensor, classifier: torch.Tensor) -> torch.Tensor:
    """What a student says of each class: the mean of its map by where its classifier finds the class.

    Args:
        feature_map: (N, D, H, W), the map that is pooled and classified.
        classifier: (C, D), weights of the linear classifier.

    Returns:
        (N, C, D). It takes no parameter that is not the classifier's own, so that nothing is left of it in use.
    """
    cells = feature_map.float().flatten(2)
    where = (classifier.float() @ cells).softmax(dim=2)
    return where @ cells.transpose(1, 2)


def structure_loss(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """Whether the embeddings of a student lie to each other as those of a teacher do.

    Args:
        teacher: (P, D).
        student: (P, D'), another width will do.

    Returns:
        Scalar: the Huber loss (delta 1) of all P x P distances, each divided by the mean of the P(P - 1) of its
        network, summed and divided by P.
    """
    distances = F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher), reduction="sum")
    return distances / len(teacher)


def label_embedding_loss(
    teacher: torch.Tensor, student: torch.Tensor, positive: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both losses of LED, of the embeddings of positive labels alone.

    Args:
        teacher: (N, C, D).
        student: (N, C, D').
        positive: (N, C) bool.

    Returns:
        Class-aware: of each class that two images or more have, the :func:`structure_loss` of these images.
        Instance-aware: of each image of two labels or more, that of these labels. Both are summed and divided by N.
    """
    class_aware, instance_aware = student.new_zeros(()), student.new_zeros(())
    for label in (positive.sum(dim=0) > 1).nonzero().flatten().tolist():
        images = positive[:, label]
        class_aware = class_aware + structure_loss(teacher[images, label], student[images, label])
    for image in (positive.sum(dim=1) > 1).nonzero().flatten().tolist():
        labels = positive[image]
        instance_aware = instance_aware + structure_loss(teacher[image, labels], student[image, labels])
    return class_aware / len(positive), instance_aware / len(positive)


@FEATURE_DISTILLER_REGISTRY.register()
class LabelEmbeddingDistiller(FeatureDistiller):
    """LED: for each label, the embeddings of student and teacher have the same structure over images and labels.

    The paper's networks have an encoder with a query for each label. Here both have something of the kind already: the
    teacher's regions and their scores, the student's map and its classifier. The distances do not ask for one width.
    """

    asks_for: ClassVar[str] = "regions"
    needs_labels: ClassVar[bool] = True

    @configurable
    def __init__(
        self,
        *,
        classifier: nn.Linear,
        classified_layer: str,
        class_aware_weight: float = 1.0,
        instance_aware_weight: float = 1.0,
        **layers,
    ):
        """
        Args:
            classifier: the student's.
            classified_layer: the student's map that it classifies.
            class_aware_weight, instance_aware_weight: factors on the two losses.
            layers: see :class:`FeatureDistiller`; one pair.
        """
        super().__init__(**layers)
        if len(self.pairs) != 1 or self.pairs[0][1] != classified_layer:
            raise InputError(
                f"KD.FEATURE.LAYERS {[':'.join(pair) for pair in self.pairs]}: give label embeddings one pair, "
                f"with the map that the student classifies: '<teacher layer>:{classified_layer}'"
            )
        ((self.teacher_layer, self.student_layer),) = self.pairs
        # Not a submodule: it is the student's.
        self._classifier = (classifier,)
        self.weights = class_aware_weight, instance_aware_weight

    @classmethod
    def from_config(cls, cfg: CfgNode, student: nn.Module) -> dict:
        """From ``KD`` and the teacher's configuration; InputError where a layer or the student's pooling is wrong."""
        if student.head.fully_connected is not None:
            raise InputError(
                "MODEL.CLASSIFIER.POOLING fc: label embeddings come from the classifier on the map itself; take "
                "average or max, or another KD.FEATURE.DISTILLER"
            )
        return super().from_config(cfg, student) | {
            "classifier": student.head.linear,
            "classified_layer": student.head.in_feature,
            "class_aware_weight": cfg.KD.FEATURE.CLASS_AWARE_WEIGHT,
            "instance_aware_weight": cfg.KD.FEATURE.INSTANCE_AWARE_WEIGHT,
        }

    def forward(
        self,
        features: dict[str, torch.Tensor],
        image_sizes: Sequence[tuple[int, int]],
        knowledge: Sequence[TeacherKnowledge],
        targets: torch.Tensor,
    ) -> torch.Tensor:
        """
        Args:
            features: the student's maps of N images.
            image_sizes: not used.
            knowledge: of the same N views, with regions, their features and scores.
            targets: (N, C), 1 where a label is positive.

        Returns:
            The sum of both losses with their factors. A view without regions counts as one without labels.
        """
        (classifier,) = self._classifier
        # Distances of distances want every digit, in mixed precision too.
        with torch.autocast(device_type=targets.device.type, enabled=False):
            return self._loss(features[self.student_layer], classifier.weight, knowledge, targets)

    def _loss(
        self,
        feature_map: torch.Tensor,
        classifier: torch.Tensor,
        knowledge: Sequence[TeacherKnowledge],
        targets: torch.Tensor,
    ) -> torch.Tensor:
        student = class_activation_embeddings(feature_map, classifier)
        teacher = torch.stack([region_embeddings(k.features[self.teacher_layer], k.region_scores) for k in knowledge])
        has_regions = torch.tensor([len(k.region_scores) > 0 for k in knowledge], device=targets.device)
        positive = (targets == 1) & has_regions[:, None]
        # Images are compared with all others of the batch, those of other processes too.
        losses = label_embedding_loss(gathered(teacher), gathered(student), gathered(positive))
        total = sum(weight * loss for weight, loss in zip(self.weights, losses, strict=True))
        return self.loss_weight * with_whole_gradient(total)


def _relative_distances(embeddings: torch.Tensor) -> torch.Tensor:
    """(P, P) distances divided by their mean; of embeddings that are all the same, zeros."""
    distances = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")
    count = len(embeddings)
    mean = distances.sum() / (count * (count - 1))
    return distances / mean.clamp(min=torch.finfo(distances.dtype).eps)
