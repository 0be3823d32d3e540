"""RoI pooling from one feature map, and box heads, which turn a pooled region into one vector."""

from __future__ import annotations

import fvcore.nn.weight_init as weight_init
import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ROIAlign, ShapeSpec
from detectron2.modeling import ROI_BOX_HEAD_REGISTRY
from detectron2.modeling.poolers import ROIPooler
from torch import nn
from torch.nn import functional as F

__all__ = ["AveragePoolBoxHead", "ProductROIAlign", "VGGBoxHead", "build_region_pooler", "roi_align_by_product"]

# On maps with more cells, torchvision's loop over the four cells around each point is faster than the product.
_MAX_CELLS = 256


@ROI_BOX_HEAD_REGISTRY.register()
class VGGBoxHead(nn.Module):
    """fc6 and fc7 of VGG, each with ReLU and dropout. ImageNet weights fit at 512 channels, 7x7 and 4096 outputs."""

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, fc_dim: int = 4096, dropout: float = 0.5):
        """
        Args:
            input_shape: channels, height and width of a pooled region.
            fc_dim: outputs of both layers.
            dropout: probability of dropout after each layer.
        """
        super().__init__()
        self.fc6 = nn.Linear(input_shape.channels * input_shape.height * input_shape.width, fc_dim)
        self.fc7 = nn.Linear(fc_dim, fc_dim)
        self.dropout = dropout
        for layer in (self.fc6, self.fc7):
            weight_init.c2_xavier_fill(layer)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        """Return arguments from ``MODEL.ROI_BOX_HEAD``."""
        return {
            "input_shape": input_shape,
            "fc_dim": cfg.MODEL.ROI_BOX_HEAD.FC_DIM,
            "dropout": cfg.MODEL.ROI_BOX_HEAD.DROPOUT,
        }

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(M, channels, height, width) to (M, fc_dim)."""
        x = x.flatten(start_dim=1)
        for layer in (self.fc6, self.fc7):
            x = F.dropout(F.relu(layer(x)), self.dropout, self.training)
        return x

    @property
    def output_shape(self) -> ShapeSpec:
        """Length of a region's vector, as channels."""
        return ShapeSpec(channels=self.fc7.out_features)


@ROI_BOX_HEAD_REGISTRY.register()
class AveragePoolBoxHead(nn.Module):
    """The mean over the pooled region, for networks that classify a globally averaged map (ResNet, EfficientNet)."""

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, dropout: float = 0.0):
        """
        Args:
            input_shape: channels of a pooled region.
            dropout: probability of dropout after the mean.
        """
        super().__init__()
        self.channels = input_shape.channels
        self.dropout = dropout

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        """Return arguments from ``MODEL.ROI_BOX_HEAD``."""
        return {"input_shape": input_shape, "dropout": cfg.MODEL.ROI_BOX_HEAD.DROPOUT}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(M, channels, height, width) to (M, channels)."""
        return F.dropout(x.mean(dim=(2, 3)), self.dropout, self.training)

    @property
    def output_shape(self) -> ShapeSpec:
        """Length of a region's vector, as channels."""
        return ShapeSpec(channels=self.channels)


def build_region_pooler(stride: int, *, output_size: int, sampling_ratio: int, pooler_type: str) -> ROIPooler:
    """Build Detectron2's pooler for one map, with a faster ROIAlign on the CPU.

    Args:
        stride: stride of the map.
        output_size: P, side of a pooled region in cells.
        sampling_ratio: side of the grid of points that ROIAlign averages in a cell; 0 adapts it to the region.
        pooler_type: ``ROIPool``, ``ROIAlign`` or ``ROIAlignV2``.
    """
    pooler = ROIPooler(output_size, (1.0 / stride,), sampling_ratio, pooler_type)
    if pooler_type.startswith("ROIAlign"):
        (align,) = pooler.level_poolers
        arguments = align.output_size, align.spatial_scale, align.sampling_ratio, align.aligned
        pooler.level_poolers = nn.ModuleList([ProductROIAlign(*arguments)])
    return pooler


class ProductROIAlign(ROIAlign):
    """Detectron2's ROIAlign, computed as a matrix product where that is faster; results are equal up to rounding.

    On the CPU, torchvision's backward pass runs in one thread, point by point, and takes an eighth of a teacher's step
    on a map of 10x10. The product replaces it if the map is small and the number of points is fixed.
    """

    def forward(self, input: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        """Pool regions; see :func:`roi_align_by_product`."""
        small = input.shape[-2] * input.shape[-1] <= _MAX_CELLS
        if input.device.type == "cpu" and input.requires_grad and self.sampling_ratio > 0 and small:
            # Like torchvision's, the result keeps the type of the map in mixed precision.
            with torch.autocast(device_type=input.device.type, enabled=False):
                return roi_align_by_product(
                    input, rois, self.output_size[0], self.spatial_scale, self.sampling_ratio, self.aligned
                )
        return super().forward(input, rois)


def roi_align_by_product(
    feature_map: torch.Tensor, rois: torch.Tensor, output_size: int, scale: float, sampling_ratio: int, aligned: bool
) -> torch.Tensor:
    """RoIAlign (He et al. 2017). Bilinear interpolation is linear in the map and the same for all channels.

    Args:
        feature_map: (N, D, H, W).
        rois: (M, 5): index of the image, not decreasing, and the box, XYXY in pixels.
        output_size: P.
        scale: side of the map divided by that of the image.
        sampling_ratio: side of the grid of points that are averaged in a cell; at least 1.
        aligned: pixel values are at the centers of pixels, as in ROIAlignV2.

    Returns:
        (M, D, P, P).
    """
    count, channels, height, width = feature_map.shape
    boxes = rois[:, 1:] * scale - (0.5 if aligned else 0.0)
    weights_x = _interpolation(boxes[:, 0], boxes[:, 2], output_size, sampling_ratio, width, aligned)
    weights_y = _interpolation(boxes[:, 1], boxes[:, 3], output_size, sampling_ratio, height, aligned)
    # (M, P, P, H * W): the weight of each cell of the map in each cell of a region.
    weights = (weights_y[:, :, None, :, None] * weights_x[:, None, :, None, :]).flatten(3)
    per_image = weights.split(torch.bincount(rois[:, 0].long(), minlength=count).tolist())
    cells = feature_map.flatten(2).transpose(1, 2)
    pooled = [of_image.flatten(0, 2) @ of_map for of_image, of_map in zip(per_image, cells, strict=True)]
    return torch.cat(pooled).view(len(rois), output_size, output_size, channels).permute(0, 3, 1, 2)


def _interpolation(
    start: torch.Tensor, end: torch.Tensor, output_size: int, sampling_ratio: int, length: int, aligned: bool
) -> torch.Tensor:
    """Return (M, P, length): the weights of the map's rows or columns in the mean over the points of a cell."""
    size = end - start if aligned else (end - start).clamp(min=1)
    points = torch.arange(output_size * sampling_ratio, device=start.device) + 0.5
    points = start[:, None] + points / (output_size * sampling_ratio) * size[:, None]
    # A point up to one cell outside has the value at the border; one further outside has the value zero.
    inside = (points >= -1) & (points <= length)
    distances = points.clamp(0, length - 1)[:, :, None] - torch.arange(length, device=start.device)
    weights = (1 - distances.abs()).clamp(min=0) * inside[:, :, None]
    return weights.unflatten(1, (output_size, sampling_ratio)).mean(dim=2)
