"""Crops are inside the image and have the area and aspect asked for; changed colors equal plain arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlickd.data.augmentation import ColorJitter, ColorShift, RandomCrop

IMAGE = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 20, 30), dtype=np.uint8))


def gray(rgb: np.ndarray) -> np.ndarray:
    return np.tensordot([0.2989, 0.587, 0.114], rgb, axes=1)


@given(st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0.2, 5), st.floats(0.2, 5), st.integers(0, 1000))
def test_a_crop_is_inside_and_has_the_area(area_a, area_b, aspect_a, aspect_b, seed: int) -> None:
    area, aspect = sorted((area_a, area_b)), sorted((aspect_a, aspect_b))
    x0, y0, x1, y1 = RandomCrop(tuple(area), tuple(aspect)).draw(np.random.default_rng(seed))
    assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
    assert area[0] - 1e-6 <= (x1 - x0) * (y1 - y0) <= area[1] + 1e-6
    touches_the_border = x1 - x0 > 1 - 1e-6 or y1 - y0 > 1 - 1e-6
    assert touches_the_border or aspect[0] - 1e-6 <= (x1 - x0) / (y1 - y0) <= aspect[1] + 1e-6


def test_draws_fill_their_range() -> None:
    generator = np.random.default_rng(0)
    crops = np.array([RandomCrop((0.2, 0.5)).draw(generator) for _ in range(500)])
    np.testing.assert_allclose((crops[:, :2] + crops[:, 2:]).mean(axis=0) / 2, 0.5, atol=0.03)
    assert (crops.min(axis=0)[:2] < 0.03).all() and (crops.max(axis=0)[2:] > 0.97).all()
    factors = np.array([ColorJitter(0.4, 0.2, 0.0).draw(generator) for _ in range(400)])
    np.testing.assert_allclose(factors.min(axis=0), [0.6, 0.8, 1.0], atol=0.01)
    np.testing.assert_allclose(factors.max(axis=0), [1.4, 1.2, 1.0], atol=0.01)
    assert ColorJitter().draw(generator) == ColorShift()


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.4])
def test_each_color_factor_equals_arithmetic(factor: float) -> None:
    rgb = IMAGE.numpy().astype(float)
    expected = {
        "brightness": rgb * factor,
        "contrast": gray(rgb).mean() + factor * (rgb - gray(rgb).mean()),
        "saturation": gray(rgb) + factor * (rgb - gray(rgb)),
    }
    for name, values in expected.items():
        changed = ColorShift(**{name: factor}).apply(IMAGE)
        assert changed.dtype == torch.uint8
        assert torch.equal(ColorShift(**{name: factor}).apply(IMAGE.flip(0), "BGR").flip(0), changed)
        assert np.abs(changed.numpy() - values.clip(0, 255)).max() <= (1.5 if factor != 1 else 0.01)
