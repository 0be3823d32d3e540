"""Where in an image a classifier finds its classes."""

from __future__ import annotations

import torch
from torch import nn

from mlickd.errors import InputError

from .meta_arch import MultiLabelClassifier

__all__ = ["ClassifierWithActivationMaps"]


class ClassifierWithActivationMaps(nn.Module):
    """A finished classifier that also says where it finds each class; see :meth:`ClassifierHead.activation_maps`."""

    def __init__(self, model: MultiLabelClassifier):
        super().__init__()
        self.model = model
        self.train(model.training)

    def forward(self, batched_inputs: list[dict]) -> list[dict[str, torch.Tensor]]:
        """
        Args:
            batched_inputs: samples with ``image``, all of one size.

        Returns:
            For each sample ``image_scores`` (C,), as the classifier at inference, and ``activation_maps`` (C, H, W),
            which cover the whole image.

        Raises:
            InputError: the head has no such maps, or the backbone pads the images, so that a map covers more than them.
        """
        images = self.model.preprocess([sample["image"] for sample in batched_inputs])
        if any(size != images.tensor.shape[-2:] for size in images.image_sizes):
            raise InputError(
                "activation maps need images of one size that the backbone does not pad: set INPUT.SIZE_TEST to a "
                f"multiple of {self.model.backbone.size_divisibility}"
            )
        features = self.model.backbone(images.tensor)
        maps = self.model.head.activation_maps(features)
        scores = self.model.head(features).sigmoid()
        return [
            {"image_scores": of_image, "activation_maps": maps_of_image}
            for of_image, maps_of_image in zip(scores, maps, strict=True)
        ]
