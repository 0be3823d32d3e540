"""Changed colors against plain arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlickd.data.colors import ColorJitter, ColorShift

IMAGE = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 20, 30), dtype=np.uint8))


def gray(rgb: np.ndarray) -> np.ndarray:
    return np.tensordot([0.2989, 0.587, 0.114], rgb, axes=1)


def test_no_change_is_no_change() -> None:
    assert torch.equal(ColorShift().apply(IMAGE), IMAGE) and torch.equal(ColorShift().apply(IMAGE, "BGR"), IMAGE)
    assert ColorJitter().draw(np.random.default_rng(0)) == ColorShift()


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.4])
def test_each_factor_against_arithmetic(factor: float) -> None:
    rgb = IMAGE.numpy().astype(float)
    expected = {
        "brightness": rgb * factor,
        "contrast": gray(rgb).mean() + factor * (rgb - gray(rgb).mean()),
        "saturation": gray(rgb) + factor * (rgb - gray(rgb)),
    }
    for name, values in expected.items():
        changed = ColorShift(**{name: factor}).apply(IMAGE)
        assert changed.dtype == torch.uint8
        assert np.abs(changed.numpy() - values.clip(0, 255)).max() <= 1.5


def test_the_order_of_channels_does_not_matter() -> None:
    shift = ColorShift(1.2, 0.7, 0.4)
    assert torch.equal(shift.apply(IMAGE.flip(0), "BGR").flip(0), shift.apply(IMAGE))


def test_strengths_bound_the_factors() -> None:
    generator = np.random.default_rng(0)
    factors = np.array([ColorJitter(0.4, 0.2, 0.0).draw(generator) for _ in range(400)])
    np.testing.assert_allclose(factors.min(axis=0), [0.6, 0.8, 1.0], atol=0.01)
    np.testing.assert_allclose(factors.max(axis=0), [1.4, 1.2, 1.0], atol=0.01)
