"""RoI pooling from one feature map."""

from __future__ import annotations

import torch
from detectron2.layers import ROIAlign
from detectron2.modeling.poolers import ROIPooler
from torch import nn

__all__ = ["ProductROIAlign", "build_region_pooler", "roi_align_by_product"]

# Beyond that many cells of a map, torchvision's loop over the few cells that a point lies between is the faster.
_MOST_CELLS = 256


def build_region_pooler(stride: int, *, output_size: int, sampling_ratio: int, pooler_type: str) -> ROIPooler:
    """Detectron2's pooler over one map.

    Args:
        stride: of the map.
        output_size: P, cells of a pooled region in both directions.
        sampling_ratio: points in both directions that ROIAlign averages in a cell; 0 chooses it by the region's size.
        pooler_type: ``ROIPool``, ``ROIAlign`` or ``ROIAlignV2``.
    """
    pooler = ROIPooler(output_size, (1.0 / stride,), sampling_ratio, pooler_type)
    if pooler_type.startswith("ROIAlign"):
        (align,) = pooler.level_poolers
        arguments = align.output_size, align.spatial_scale, align.sampling_ratio, align.aligned
        pooler.level_poolers = nn.ModuleList([ProductROIAlign(*arguments)])
    return pooler


class ProductROIAlign(ROIAlign):
    """Detectron2's ROIAlign, to rounding, as a matrix product where that is faster.

    On the CPU torchvision's backward pass runs in one thread, point by point: an eighth of a teacher's step on a map of
    10x10. The product is made where gradients are needed, the map is small and the number of points is fixed.
    """

    def forward(self, input: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        """See :func:`roi_align_by_product`; of other maps it is Detectron2's."""
        small = input.shape[-2] * input.shape[-1] <= _MOST_CELLS
        if input.device.type == "cpu" and input.requires_grad and self.sampling_ratio > 0 and small:
            # As torchvision's, the product keeps the type of the map in mixed precision.
            with torch.autocast(device_type=input.device.type, enabled=False):
                return roi_align_by_product(
                    input, rois, self.output_size[0], self.spatial_scale, self.sampling_ratio, self.aligned
                )
        return super().forward(input, rois)


def roi_align_by_product(
    feature_map: torch.Tensor, rois: torch.Tensor, output_size: int, scale: float, sampling_ratio: int, aligned: bool
) -> torch.Tensor:
    """RoIAlign (He et al. 2017). Bilinear interpolation is linear in the map, and the same for all channels.

    Args:
        feature_map: (N, D, H, W).
        rois: (M, 5): index of the image, not decreasing, and the box, XYXY in pixels.
        output_size: P.
        scale: of the map to the pixels.
        sampling_ratio: points in both directions that are averaged in a cell; at least 1.
        aligned: pixels are taken at their centers, as ROIAlignV2 does.

    Returns:
        (M, D, P, P).
    """
    count, channels, height, width = feature_map.shape
    boxes = rois[:, 1:] * scale - (0.5 if aligned else 0.0)
    weights_x = _interpolation(boxes[:, 0], boxes[:, 2], output_size, sampling_ratio, width, aligned)
    weights_y = _interpolation(boxes[:, 1], boxes[:, 3], output_size, sampling_ratio, height, aligned)
    # (M, P, P, H, W): what each cell of the map adds to each cell of a region.
    weights = (weights_y[:, :, None, :, None] * weights_x[:, None, :, None, :]).flatten(3)
    per_image = weights.split(torch.bincount(rois[:, 0].long(), minlength=count).tolist())
    cells = feature_map.flatten(2).transpose(1, 2)
    pooled = [of_image.flatten(0, 2) @ of_map for of_image, of_map in zip(per_image, cells, strict=True)]
    return torch.cat(pooled).view(len(rois), output_size, output_size, channels).permute(0, 3, 1, 2)


def _interpolation(
    start: torch.Tensor, end: torch.Tensor, output_size: int, sampling_ratio: int, length: int, aligned: bool
) -> torch.Tensor:
    """(M, P, length): weights of the map's rows or columns in the mean over the points of a cell."""
    size = end - start if aligned else (end - start).clamp(min=1)
    points = torch.arange(output_size * sampling_ratio, device=start.device) + 0.5
    points = start[:, None] + points / (output_size * sampling_ratio) * size[:, None]
    # A point up to one cell outside takes the value at the border, one further out counts as zero.
    inside = (points >= -1) & (points <= length)
    distances = points.clamp(0, length - 1)[:, :, None] - torch.arange(length, device=start.device)
    weights = (1 - distances.abs()).clamp(min=0) * inside[:, :, None]
    return weights.unflatten(1, (output_size, sampling_ratio)).mean(dim=2)
