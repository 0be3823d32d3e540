"""The student: a plain multi-label classifier."""

from collections.abc import Callable

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn
from torch.nn import functional as F

from mlickd.errors import InputError
from mlickd.modeling.losses import build_label_loss, multilabel_bce
from mlickd.modeling.roi_heads import VGGBoxHead

from .image_model import ImageModel


class ClassifierHead(nn.Module):
    """Pooling over the whole feature map and a linear classifier."""

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
            input_shape: shapes of the backbone's maps.
            num_classes: C.
            in_feature: name of the map to classify; may be empty if the backbone returns only one.
            pooling: ``average``, ``max``, or ``fc`` (max pooling to 7x7, then fc6 and fc7 of VGG).
            dropout: probability of dropout before the linear classifier, or after fc6 and fc7.
            fc_dim: number of outputs of fc6 and fc7.

        Raises:
            InputError: ``in_feature`` or ``pooling`` is unknown.
        """
        super().__init__()
        if not in_feature and len(input_shape) == 1:
            (in_feature,) = input_shape
        for key, value, choices in (
            ("IN_FEATURE", in_feature, input_shape),
            ("POOLING", pooling, ("average", "max", "fc")),
        ):
            if value not in choices:
                raise InputError(f"MODEL.CLASSIFIER.{key} {value!r}: choose one of {', '.join(choices)}")
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
        """Return arguments from ``MODEL.CLASSIFIER``."""
        options = {key.lower(): value for key, value in cfg.MODEL.CLASSIFIER.items()}
        return {"input_shape": input_shape, "num_classes": cfg.MODEL.NUM_CLASSES, **options}

    def forward(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """Compute logits (N, C) from feature maps by name; float32 also in mixed precision."""
        x = features[self.in_feature].float()
        if self.fully_connected is not None:
            return self.linear(self.fully_connected(F.adaptive_max_pool2d(x, 7))).float()
        x = x.mean(dim=(2, 3)) if self.pooling == "average" else x.amax(dim=(2, 3))
        return self.linear(F.dropout(x, self.dropout, self.training)).float()

    def activation_maps(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        """Compute class activation maps (Zhou et al. 2016): the classifier, without bias, at each cell of the map.

        With average pooling, the logit is the mean of the map plus the bias, so the map shows exactly how much each
        cell adds to the logit or takes from it.

        Returns:
            (N, C, H, W), in units of the logits.

        Raises:
            InputError: the pooling is ``fc``.
        """
        if self.fully_connected is not None:
            raise InputError(
                "MODEL.CLASSIFIER.POOLING fc: fully connected layers have no class activation maps; use a student with "
                "average or max"
            )
        return torch.einsum("cd,ndhw->nchw", self.linear.weight.float(), features[self.in_feature].float())


@META_ARCH_REGISTRY.register()
class MultiLabelClassifier(ImageModel):
    """A backbone, pooling and a linear classifier with a sigmoid for each class (S-Cls of the paper)."""

    @configurable
    def __init__(self, *, head: ClassifierHead, label_loss: Callable = multilabel_bce, **image_model):
        """
        Args:
            head: classifier of the backbone's maps.
            label_loss: function of logits (N, C) and targets (N, C) of :meth:`label_targets`.
            image_model: arguments of :class:`ImageModel`.
        """
        super().__init__(**image_model)
        self.head = head
        self.label_loss = label_loss

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Return arguments of :class:`ImageModel`, and from ``MODEL.CLASSIFIER`` and ``MODEL.LABEL_LOSS``."""
        shared = super().from_config(cfg)
        head = ClassifierHead(cfg, shared["backbone"].output_shape())
        return {**shared, "head": head, "label_loss": build_label_loss(cfg)}

    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor] | list[dict]:
        """Compute the loss in training, and the image scores at inference.

        Args:
            batched_inputs: samples with ``image`` (3, H, W), 0 to 255, and in training ``labels``.

        Returns:
            In training ``{"loss_label": scalar}``. At inference, for each sample, the probabilities ``image_scores``
            (C,).
        """
        images = self.preprocess([sample["image"] for sample in batched_inputs])
        logits = self.head(self.backbone(images.tensor))
        if self.training:
            targets = self.label_targets(batched_inputs)
            return {"loss_label": self.label_loss(logits, targets)}
        return [{"image_scores": scores} for scores in logits.sigmoid()]

    def view_scores(self, batched_inputs: list[dict]) -> list[dict[str, torch.Tensor]]:
        """Return the ``image_scores`` of each sample, to be averaged over views."""
        return self(batched_inputs)

    def build_output(self, sample: dict, scores: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the output of :meth:`forward` at inference for one sample, given its :meth:`view_scores`."""
        return scores


class ClassifierWithActivationMaps(nn.Module):
    """A trained classifier that also returns its :meth:`ClassifierHead.activation_maps`."""

    def __init__(self, model: MultiLabelClassifier):
        """
        Raises:
            InputError: the model has another ``forward`` or another kind of head.
        """
        super().__init__()
        if type(model).forward is not MultiLabelClassifier.forward or not isinstance(model.head, ClassifierHead):
            raise InputError(
                f"activation maps need the forward and the head of MultiLabelClassifier, not of {type(model).__name__}"
            )
        self.model = model
        self.train(model.training)

    def forward(self, batched_inputs: list[dict]) -> list[dict[str, torch.Tensor]]:
        """Return ``image_scores`` (C,) and ``activation_maps`` (C, H, W) of the whole ``image`` of each sample.

        Raises:
            InputError: the pooling is ``fc``, or the images need padding, which would be part of the maps.
        """
        images = self.model.preprocess([sample["image"] for sample in batched_inputs])
        if any(size != images.tensor.shape[-2:] for size in images.image_sizes):
            raise InputError(
                "INPUT.SIZE_TEST: activation maps need images that the backbone does not pad; set a multiple of "
                f"{self.model.backbone.size_divisibility}"
            )
        features = self.model.backbone(images.tensor)
        outputs = zip(self.model.head(features).sigmoid(), self.model.head.activation_maps(features), strict=True)
        return [{"image_scores": scores, "activation_maps": maps} for scores, maps in outputs]
