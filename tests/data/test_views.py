"""Regions move with the pixels of a view; random crops stay in their range."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mlickd.data import View
from mlickd.data.sampling import RandomCrop
from mlickd.data.views import resize_part
from mlickd.decoding import max_reduction


def crops(max_corner: float, min_side: float) -> st.SearchStrategy[tuple[float, float, float, float]]:
    """Return a strategy for crops (x0, y0, x1, y1) in fractions of the image."""
    low, side = st.floats(0, max_corner), st.floats(min_side, 1)
    return st.tuples(low, low, side, side).map(lambda c: (c[0], c[1], min(c[0] + c[2], 1), min(c[1] + c[3], 1)))


@given(crops(0.7, 0.05), st.integers(1, 300), st.integers(1, 300))
def test_a_crop_has_at_least_one_pixel_inside_the_image(crop: tuple, height: int, width: int) -> None:
    left, top, right, bottom = View(8, crop=crop).crop_in_pixels(height, width)
    assert 0 <= left < right <= width and 0 <= top < bottom <= height


@given(crops(0.7, 0.05), st.integers(1, 900), st.integers(1, 900), st.integers(1, 300))
def test_a_reduced_image_has_the_pixels_of_the_view(crop: tuple, height: int, width: int, size: int) -> None:
    for view in (View(size), View(size, crop=crop)):
        left, top, right, bottom = view.crop_in_pixels(height, width)
        shorter = min(right - left, bottom - top)
        reduction = max_reduction(bottom - top, right - left, size)
        assert reduction == 1 or shorter / reduction >= size
        assert reduction == 8 or shorter / (2 * reduction) < size


@given(crops(0.5, 0.2), st.integers(20, 700), st.integers(20, 700), st.integers(0, 2**31))
def test_the_same_regions_are_in_view_at_every_size(crop: tuple, height: int, width: int, seed: int) -> None:
    """Region i must be the same region for the student and the teacher."""
    view = View(32, crop=crop)
    # Sides are quarters of the sides of the crop, so that often exactly three quarters of a box are in view.
    left, top, right, bottom = view.crop_in_pixels(height, width)
    generator = np.random.default_rng(seed)
    low = generator.integers(-4, 4, (200, 2)) / 4 * [right - left, bottom - top] + [left, top]
    boxes = np.concatenate([low, low + generator.integers(1, 5, (200, 2)) / 4 * [right - left, bottom - top]], axis=1)
    expected = view.regions(boxes.astype(np.float32), height, width)[1]
    for size in (31, 224, 672, 1001):
        other = replace(view, size=size)
        np.testing.assert_array_equal(other.regions(boxes.astype(np.float32), height, width)[1], expected)


edges = st.tuples(st.integers(0, 60), st.sampled_from([0, 0.25, 0.5, 0.875]))


@given(edges, edges, edges, edges, st.integers(1, 40), st.integers(0, 1000))
def test_a_part_is_resized_like_in_pillow(left, top, right, bottom, side: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (170, 190, 3), dtype=np.uint8)
    box = (sum(left), sum(top), 190 - sum(right), 170 - sum(bottom))
    # Pixels outside the box must not matter, not even at its edge.
    x0, y0, x1, y1 = (left[0], top[0], 190 - right[0], 170 - bottom[0])
    inside = (left[1], top[1], x1 - x0 - right[1], y1 - y0 - bottom[1])
    part = Image.fromarray(image[y0:y1, x0:x1])
    expected = np.asarray(part.resize((side, side), Image.Resampling.BILINEAR, box=inside))
    pixels = resize_part(image, box, side)
    assert pixels.shape == (3, side, side) and pixels.is_contiguous()
    assert np.abs(pixels.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1


@given(st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0.2, 5), st.floats(0.2, 5), st.integers(0, 1000))
def test_a_random_crop_is_inside_and_has_the_area_and_aspect(area_a, area_b, aspect_a, aspect_b, seed: int) -> None:
    area, aspect = sorted((area_a, area_b)), sorted((aspect_a, aspect_b))
    x0, y0, x1, y1 = RandomCrop(tuple(area), tuple(aspect)).draw(np.random.default_rng(seed))
    assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
    assert area[0] - 1e-6 <= (x1 - x0) * (y1 - y0) <= area[1] + 1e-6
    touches_the_border = x1 - x0 > 1 - 1e-6 or y1 - y0 > 1 - 1e-6
    assert touches_the_border or aspect[0] - 1e-6 <= (x1 - x0) / (y1 - y0) <= aspect[1] + 1e-6


def test_random_crops_fill_their_range() -> None:
    generator = np.random.default_rng(0)
    crops = np.array([RandomCrop((0.2, 0.5)).draw(generator) for _ in range(500)])
    np.testing.assert_allclose((crops[:, :2] + crops[:, 2:]).mean(axis=0) / 2, 0.5, atol=0.03)
    assert (crops.min(axis=0)[:2] < 0.03).all() and (crops.max(axis=0)[2:] > 0.97).all()
