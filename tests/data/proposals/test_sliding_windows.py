from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou

from mlickd.data.proposals.methods import proposals_for_image
from mlickd.data.proposals.sliding_windows import sliding_windows
from mlickd.errors import InputError


@given(st.integers(1, 300), st.integers(1, 300), st.floats(0, 0.8), st.floats(0.2, 1))
@settings(deadline=None, max_examples=20)
def test_windows_are_in_the_image_and_reach_its_borders(height, width, overlap, smallest):
    windows = sliding_windows(height, width, overlap, smallest)
    size = np.array([width, height])
    assert (windows[:, :2] >= 0).all() and (windows[:, :2] < windows[:, 2:]).all()
    assert (windows[:, 2:] <= size * (1 + 1e-12)).all()
    np.testing.assert_allclose(windows[0], [0, 0, width, height])
    sides = np.round((windows[:, 2:] - windows[:, :2]) / size, 9)
    assert (sides.prod(axis=1) >= 0.5 * (smallest - 1e-9) ** 2).all()
    for shape in np.unique(sides, axis=0):
        of_shape = windows[(sides == shape).all(axis=1)]
        np.testing.assert_allclose(of_shape[:, :2].min(axis=0), 0, atol=1e-9)
        np.testing.assert_allclose(of_shape[:, 2:].max(axis=0), size)


@pytest.mark.parametrize("overlap", [0.3, 0.65])
def test_neighbors_overlap_as_asked(overlap):
    windows = sliding_windows(100, 200, overlap, 0.3)
    sides = np.round(windows[:, 2:] - windows[:, :2], 6)
    for shape in np.unique(sides, axis=0):
        same = torch.as_tensor(windows[(sides == shape).all(axis=1)])
        if len(same) > 1:
            iou = box_iou(same, same).fill_diagonal_(0)
            assert iou.max(dim=1).values.min() >= overlap - 1e-9


def test_larger_windows_and_those_in_the_center_come_first():
    windows = sliding_windows(100, 100, 0.5, 0.25)
    scales = np.round(np.log2((windows[:, 2:] - windows[:, :2]).prod(axis=1)), 6)
    squares = windows[np.isclose(windows[:, 2] - windows[:, 0], 50) & np.isclose(windows[:, 3] - windows[:, 1], 50)]
    assert scales[0] == scales.max() and scales[-1] == scales.min()
    distance = np.abs((squares[:, :2] + squares[:, 2:]) / 2 - 50).max(axis=1)
    assert (np.diff(distance) >= -1e-6).all()


def test_as_a_method():
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    boxes, scores = proposals_for_image(noise, "sliding")
    plain, _ = proposals_for_image(np.zeros_like(noise), "sliding")
    np.testing.assert_array_equal(boxes, plain)
    np.testing.assert_array_equal(boxes[0], [0, 0, 90, 60])
    assert len(boxes) == 500 and (scores == 1).all()
    many, _ = proposals_for_image(noise, "sliding", {"max_proposals": 2000})
    assert len(many) == 2000
    np.testing.assert_array_equal(many[:500], boxes)
    with pytest.raises(InputError, match="give overlap between 0 and 0.9"):
        proposals_for_image(noise, "sliding", {"overlap": 0.95})
