"""RoIAlign as a matrix product equals that of torchvision."""

from __future__ import annotations

import pytest
import torch
from detectron2.structures import Boxes
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import roi_align

from mlickd.modeling.roi_heads.region_features import ProductROIAlign, build_region_pooler, roi_align_by_product


@settings(max_examples=60)
@given(
    counts=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    output_size=st.integers(1, 4),
    sampling_ratio=st.integers(1, 3),
    aligned=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_values_and_gradients_are_those_of_torchvision(
    counts: list[int], size: tuple[int, int], output_size: int, sampling_ratio: int, aligned: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(len(counts), 2, *size, generator=generator, requires_grad=True)
    # Some boxes are partly or completely outside the map, or have no area.
    corners = (torch.rand(sum(counts), 2, 2, generator=generator) * 3 - 1) * 8 * max(size)
    boxes = corners.sort(dim=1).values.flatten(start_dim=1)
    boxes[::3, 2:] = boxes[::3, :2]
    images = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    rois = torch.cat([images[:, None].float(), boxes], dim=1)
    arguments = (output_size, 1 / 8, sampling_ratio, aligned)
    found, expected = roi_align_by_product(maps, rois, *arguments), roi_align(maps, rois, *arguments)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    gradient = torch.randn(expected.shape, generator=generator)
    gradients = [torch.autograd.grad(pooled, maps, gradient)[0] for pooled in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("pooler_type", ["ROIPool", "ROIAlign", "ROIAlignV2"])
@pytest.mark.parametrize("side", [6, 20])
@pytest.mark.parametrize("learns", [True, False])
def test_every_path_of_the_pooler_equals_detectron2(pooler_type: str, side: int, learns: bool) -> None:
    torch.manual_seed(0)
    pooler = build_region_pooler(16, output_size=3, sampling_ratio=2, pooler_type=pooler_type)
    maps = torch.randn(2, 4, side, side, requires_grad=learns)
    boxes = [Boxes(torch.rand(n, 2, 2).sort(dim=1).values.flatten(start_dim=1) * 16 * side) for n in (5, 0)]
    (level,) = pooler.level_poolers
    assert isinstance(level, ProductROIAlign) == (pooler_type != "ROIPool")
    expected = type(pooler)(3, (1 / 16,), 2, pooler_type)([maps], boxes)
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            pooled = pooler([maps], boxes)
        assert pooled.dtype == torch.float32
        torch.testing.assert_close(pooled, expected, rtol=1e-4, atol=1e-5)
