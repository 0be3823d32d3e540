"""Box heads, which map a pooled region to one vector. Its length is ``output_shape.channels``."""

import fvcore.nn.weight_init as weight_init
import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_BOX_HEAD_REGISTRY
from torch import nn
from torch.nn import functional as F


@ROI_BOX_HEAD_REGISTRY.register()
class VGGBoxHead(nn.Module):
    """fc6 and fc7 of VGG, each with ReLU and dropout. ImageNet weights fit 512x7x7 inputs and 4096 outputs."""

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, fc_dim: int = 4096, dropout: float = 0.5):
        """
        Args:
            input_shape: channels, height and width of a pooled region.
            fc_dim: number of outputs of each layer.
            dropout: probability of dropout after each layer.
        """
        super().__init__()
        self.fc6 = nn.Linear(input_shape.channels * input_shape.height * input_shape.width, fc_dim)
        self.fc7 = nn.Linear(fc_dim, fc_dim)
        self.dropout = dropout
        self.output_shape = ShapeSpec(channels=fc_dim)
        for layer in (self.fc6, self.fc7):
            weight_init.c2_xavier_fill(layer)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        """Return arguments from ``MODEL.ROI_BOX_HEAD``."""
        options = cfg.MODEL.ROI_BOX_HEAD
        return {"input_shape": input_shape, "fc_dim": options.FC_DIM, "dropout": options.DROPOUT}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map regions (M, channels, height, width) to vectors (M, fc_dim)."""
        x = x.flatten(start_dim=1)
        for layer in (self.fc6, self.fc7):
            x = F.dropout(F.relu(layer(x)), self.dropout, self.training)
        return x


@ROI_BOX_HEAD_REGISTRY.register()
class AveragePoolBoxHead(nn.Module):
    """The mean over a pooled region, similar to the mean over the whole map in ResNet and EfficientNet."""

    @configurable
    def __init__(self, input_shape: ShapeSpec):
        """``input_shape`` has the channels, height and width of a pooled region."""
        super().__init__()
        self.output_shape = ShapeSpec(channels=input_shape.channels)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        """Return the arguments; no key sets them."""
        return {"input_shape": input_shape}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map regions (M, channels, height, width) to vectors (M, channels)."""
        return x.mean(dim=(2, 3))
