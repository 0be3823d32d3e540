"""Resizing against Pillow's, whose filter it is."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mlickd.data.resampling import resize_part

edges = st.tuples(st.integers(0, 60), st.sampled_from([0, 0.25, 0.5, 0.875]))


@given(edges, edges, edges, edges, st.integers(1, 40), st.integers(0, 1000))
def test_a_part_is_resized_as_by_pillow(left, top, right, bottom, side: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (170, 190, 3), dtype=np.uint8)
    box = (sum(left), sum(top), 190 - sum(right), 170 - sum(bottom))
    # What is outside is not seen, not even at the edge.
    x0, y0, x1, y1 = (left[0], top[0], 190 - right[0], 170 - bottom[0])
    inside = (left[1], top[1], x1 - x0 - right[1], y1 - y0 - bottom[1])
    part = Image.fromarray(image[y0:y1, x0:x1])
    expected = np.asarray(part.resize((side, side), Image.Resampling.BILINEAR, box=inside))
    pixels = resize_part(image, box, side)
    assert pixels.shape == (3, side, side) and pixels.is_contiguous()
    assert np.abs(pixels.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1


@given(st.integers(1, 20), st.integers(1, 20), st.integers(20, 50))
def test_a_small_image_is_enlarged_as_by_pillow(height: int, width: int, side: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)).astype(int)
    pixels = resize_part(image, (0, 0, width, height), side)
    difference = np.abs(pixels.permute(1, 2, 0).numpy() - expected)
    # Both round after each direction, with weights of different precision.
    assert difference.max() <= 2 and difference.mean() < 0.1


def test_fine_stripes_become_gray_and_no_other_stripes() -> None:
    image = np.zeros((120, 120, 3), dtype=np.uint8)
    image[:, ::2] = 255
    pixels = resize_part(image, (0, 0, 120, 120), 37).numpy().astype(int)
    assert np.abs(pixels - 127).max() < 30
