"""The student: a plain multi-label classifier."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn
from torch.nn import functional as F

from mlickd.errors import InputError
from mlickd.modeling.losses import image_label_targets, multilabel_binary_cross_entropy_with_logits
from mlickd.modeling.roi_heads.box_head import VGGBoxHead

from .preprocess import ImageModel

__all__ = ["ClassifierHead", "MultiLabelClassifier"]


class ClassifierHead(nn.Module):
    """Pooling over the whole map and one linear classifier."""

    @configurable
    def __init__(
        self,
        *,
        input_shape: dict[str, ShapeSpec],
        num_classes: int,
        in_feature: str = "",
        pooling: str = "average",
        dropout: float = 0.0,
        fc_dim: int = 4096,
    ):
        """
        Args:
            input_shape: the backbone's maps.
            num_classes: C.
            in_feature: the map to classify; empty where the backbone returns only one.
            pooling: ``average``, ``max``, or ``fc`` (max pooling to 7x7, fc6 and fc7 as in VGG).
            dropout: probability of dropout before the linear classifier, or after fc6 and fc7.
            fc_dim: outputs of fc6 and fc7.
        """
        super().__init__()
        if not in_feature and len(input_shape) == 1:
            (in_feature,) = input_shape
        if in_feature not in input_shape:
            raise InputError(
                f"MODEL.CLASSIFIER.IN_FEATURE {in_feature!r} is no feature map of the backbone; give one of "
                f"{', '.join(input_shape)}"
            )
        if pooling not in ("average", "max", "fc"):
            raise InputError(f"MODEL.CLASSIFIER.POOLING {pooling!r} is none of average, max, fc; give one of them")
        self.in_feature = in_feature
        self.pooling = pooling
        self.dropout = dropout
        channels = input_shape[in_feature].channels
        self.fully_connected = None
        if pooling == "fc":
            shape = ShapeSpec(channels=channels, height=7, width=7)
            self.fully_connected = VGGBoxHead(shape, fc_dim=fc_dim, dropout=dropout)
            channels = fc_dim
        self.linear = nn.Linear(channels, num_classes)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """From ``MODEL.CLASSIFIER``, for maps of these shapes."""
        return {
            "input_shape": input_shape,
            "num_classes": cfg.MODEL.NUM_CLASSES,
            "in_feature": cfg.MODEL.CLASSIFIER.IN_FEATURE,
            "pooling": cfg.MODEL.CLASSIFIER.POOLING,
            "dropout": cfg.MODEL.CLASSIFIER.DROPOUT,
            "fc_dim": cfg.MODEL.CLASSIFIER.FC_DIM,
        }

    def forward(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """Feature maps by name to logits (N, C), float32 in mixed precision too."""
        x = features[self.in_feature].float()
        if self.fully_connected is not None:
            return self.linear(self.fully_connected(F.adaptive_max_pool2d(x, 7))).float()
        x = x.mean(dim=(2, 3)) if self.pooling == "average" else x.amax(dim=(2, 3))
        return self.linear(F.dropout(x, self.dropout, self.training)).float()

    def activation_maps(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """Class activation maps (Zhou et al. 2016): the classifier at each cell of the map, before pooling.

        Of a class its weights times the map, without its bias. With average pooling the mean over the cells and the
        bias are the logit, so that a map says exactly which cells speak for the class and which against it.

        Args:
            features: feature maps by name.

        Returns:
            (N, C, H, W), in units of the logits.

        Raises:
            InputError: with pooling ``fc`` there is no such map.
        """
        if self.fully_connected is not None:
            raise InputError(
                "MODEL.CLASSIFIER.POOLING fc: fully connected layers have no class activation map; take a student with "
                "average or max"
            )
        return torch.einsum("cd,ndhw->nchw", self.linear.weight.float(), features[self.in_feature].float())


@META_ARCH_REGISTRY.register()
class MultiLabelClassifier(ImageModel):
    """A backbone, pooling and a linear classifier with a sigmoid for each class (S-Cls of the paper)."""

    @configurable
    def __init__(self, *, head: ClassifierHead, **image_model):
        """
        Args:
            head: classifies the backbone's maps.
            image_model: see :class:`ImageModel`.
        """
        super().__init__(**image_model)
        self.head = head

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """As :class:`ImageModel`, and the head from ``MODEL.CLASSIFIER``."""
        shared = super().from_config(cfg)
        return {**shared, "head": ClassifierHead(cfg, shared["backbone"].output_shape())}

    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor] | list[dict]:
        """
        Args:
            batched_inputs: samples with ``image`` (3, H, W), 0 to 255, and in training ``labels``.

        Returns:
            In training ``{"loss_label": scalar}``. At inference, for each sample, ``image_scores`` (C,):
            probabilities.
        """
        images = self.preprocess([sample["image"] for sample in batched_inputs])
        logits = self.head(self.backbone(images.tensor))
        if self.training:
            return self.label_losses(logits, batched_inputs)
        return [{"image_scores": scores} for scores in logits.sigmoid()]

    def view_scores(self, batched_inputs: list[dict]) -> list[dict[str, torch.Tensor]]:
        """What may be averaged over views of the same image: ``image_scores`` of each sample, as at inference."""
        return self(batched_inputs)

    def from_view_scores(self, sample: dict, scores: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What :meth:`forward` returns of a sample at inference, from scores, or their mean over views."""
        return scores

    def label_losses(self, logits: torch.Tensor, batched_inputs: list[dict]) -> dict[str, torch.Tensor]:
        """L_p of the paper for logits (N, C) and the labels of the samples."""
        targets = image_label_targets(batched_inputs, self.num_classes, self.device)
        return {"loss_label": multilabel_binary_cross_entropy_with_logits(logits, targets)}
