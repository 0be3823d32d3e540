"""Label-wise embedding distillation (LED) of Yang et al. 2023, "Multi-Label Knowledge Distillation"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.distributed as dist
from detectron2.config import CfgNode, configurable
from detectron2.utils import comm
from torch import nn
from torch.nn import functional as F

from mlickd.distillation.knowledge import TeacherKnowledge
from mlickd.errors import InputError

from .base import FEATURE_DISTILLER_REGISTRY, FeatureDistiller

__all__ = [
    "LabelEmbeddingDistiller",
    "class_activation_embeddings",
    "label_embedding_loss",
    "region_embeddings",
    "structure_loss",
]


def region_embeddings(features: torch.Tensor, region_scores: torch.Tensor) -> torch.Tensor:
    """Return the teacher's embedding of each class in one image: the mean of the regions R', weighted by score.

    Args:
        features: (R, D), or (R, D, P, P), which are averaged over their cells.
        region_scores: (R, C), nonnegative.

    Returns:
        (C, D).
    """
    vectors = features.float().flatten(2).mean(dim=2) if features.dim() == 4 else features.float()
    weights = region_scores / region_scores.sum(dim=0).clamp(min=torch.finfo(region_scores.dtype).tiny)
    return weights.T @ vectors


def class_activation_embeddings(feature_map: torch.Tensor, classifier: torch.Tensor) -> torch.Tensor:
    """Return the student's embedding of each class: the mean of its map, weighted by the classifier's softmax.

    Args:
        feature_map: (N, D, H, W) map that is pooled and classified.
        classifier: (C, D) weights of the linear classifier.

    Returns:
        (N, C, D). There are no parameters but the classifier's, so the student stays the same at inference.
    """
    cells = feature_map.float().flatten(2)
    where = (classifier.float() @ cells).softmax(dim=2)
    return where @ cells.transpose(1, 2)


def structure_loss(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """Return the difference between the relative distances of a student's embeddings and those of a teacher's.

    Args:
        teacher: (P, D).
        student: (P, D'); the width may differ.

    Returns:
        Scalar: the Huber loss (delta 1) of all P x P distances, each divided by the mean of the P(P - 1) of its
        network, summed and divided by P.
    """
    distances = F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher), reduction="sum")
    return distances / len(teacher)


def label_embedding_loss(
    teacher: torch.Tensor, student: torch.Tensor, positive: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both losses of LED, which use only the embeddings of positive labels.

    Args:
        teacher: (N, C, D).
        student: (N, C, D').
        positive: (N, C) bool.

    Returns:
        Class-aware: for each class that two or more images have, the :func:`structure_loss` of these images.
        Instance-aware: for each image with two or more labels, that of these labels. Both are summed and divided by N.
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

    The paper's networks have an encoder with a query for each label. Here both networks have label embeddings without
    one: the teacher from its regions and their scores, the student from its map and its classifier. Their widths may
    differ.
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
            classifier: linear classifier of the student.
            classified_layer: name of the student's map that it classifies.
            class_aware_weight, instance_aware_weight: factors on the two losses.
            layers: see :class:`FeatureDistiller`; only one pair.
        """
        super().__init__(**layers)
        if len(self.pairs) != 1 or self.pairs[0][1] != classified_layer:
            raise InputError(
                f"KD.FEATURE.LAYERS {[':'.join(pair) for pair in self.pairs]}: give label embeddings one pair, "
                f"with the map that the student classifies: '<teacher layer>:{classified_layer}'"
            )
        ((self.teacher_layer, self.student_layer),) = self.pairs
        # Not a submodule: it belongs to the student.
        self._classifier = (classifier,)
        self.weights = class_aware_weight, instance_aware_weight

    @classmethod
    def from_config(cls, cfg: CfgNode, student: nn.Module, teacher_cfg: CfgNode) -> dict:
        """Return the arguments from ``KD``, the student and the teacher's configuration."""
        if student.head.fully_connected is not None:
            raise InputError(
                "MODEL.CLASSIFIER.POOLING fc: label embeddings need a classifier on the map itself; give average or "
                "max, or another KD.FEATURE.DISTILLER"
            )
        return super().from_config(cfg, student, teacher_cfg) | {
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
        """Return the sum of both losses with their factors; see :class:`FeatureDistiller`.

        A view without regions counts as one without labels.
        """
        (classifier,) = self._classifier
        # Relative distances need full precision, in mixed precision too.
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
        # Images are compared with all others of the batch, also those of other processes.
        losses = label_embedding_loss(*map(gather_images, (teacher, student, positive)))
        total = sum(weight * loss for weight, loss in zip(self.weights, losses, strict=True))
        return self.loss_weight * scale_gradient(total)


def _relative_distances(embeddings: torch.Tensor) -> torch.Tensor:
    """Return the (P, P) distances divided by their mean; zeros if all embeddings are equal."""
    distances = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")
    count = len(embeddings)
    mean = distances.sum() / (count * (count - 1))
    return distances / mean.clamp(min=torch.finfo(distances.dtype).eps)


def gather_images(values: torch.Tensor) -> torch.Tensor:
    """Concatenate values (n, ...) of images from all processes. Gradients flow only to this process's images."""
    if comm.get_world_size() == 1:
        return values
    local = values.detach().contiguous()
    gathered = [torch.empty_like(local) for _ in range(comm.get_world_size())]
    dist.all_gather(gathered, local)
    gathered[comm.get_rank()] = values
    return torch.cat(gathered)


def scale_gradient(loss: torch.Tensor) -> torch.Tensor:
    """Return a loss over gathered images, with the gradient that it has if one process has the whole batch.

    Each of W processes has the whole loss, and its gradient with respect to its own images. Their sum is the gradient,
    but DistributedDataParallel takes the mean. So the gradient is multiplied by W here; the value stays the same.
    """
    others = comm.get_world_size() - 1
    return loss + others * (loss - loss.detach()) if others else loss
