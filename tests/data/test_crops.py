"""Random crops are inside the image and as large and as wide as they should be."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlickd.data.crops import RandomCrop


@given(st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0.2, 5), st.floats(0.2, 5), st.integers(0, 1000))
def test_a_crop_is_inside_and_has_the_area(area_a, area_b, aspect_a, aspect_b, seed: int) -> None:
    area, aspect = sorted((area_a, area_b)), sorted((aspect_a, aspect_b))
    x0, y0, x1, y1 = RandomCrop(tuple(area), tuple(aspect)).draw(np.random.default_rng(seed))
    assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
    assert area[0] - 1e-6 <= (x1 - x0) * (y1 - y0) <= area[1] + 1e-6
    shape = (x1 - x0) / (y1 - y0)
    fits_only_otherwise = x1 - x0 > 1 - 1e-6 or y1 - y0 > 1 - 1e-6
    assert fits_only_otherwise or aspect[0] - 1e-6 <= shape <= aspect[1] + 1e-6


def test_crops_are_everywhere() -> None:
    generator = np.random.default_rng(0)
    crops = np.array([RandomCrop((0.2, 0.5)).draw(generator) for _ in range(500)])
    centers = (crops[:, :2] + crops[:, 2:]) / 2
    np.testing.assert_allclose(centers.mean(axis=0), 0.5, atol=0.03)
    assert (crops.min(axis=0)[:2] < 0.03).all() and (crops.max(axis=0)[2:] > 0.97).all()
