"""Views: regions move with the pixels that are cropped, scaled and mirrored."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mlickd.data import View
from mlickd.data.views import resize_part

fractions = st.tuples(st.floats(0, 0.7), st.floats(0, 0.7), st.floats(0.05, 1), st.floats(0.05, 1))


@given(fractions, st.integers(1, 300), st.integers(1, 300))
def test_a_crop_has_at_least_one_pixel_inside_the_image(corner_and_size, height: int, width: int) -> None:
    x0, y0, w, h = corner_and_size
    left, top, right, bottom = View(8, crop=(x0, y0, min(x0 + w, 1), min(y0 + h, 1))).crop_in_pixels(height, width)
    assert 0 <= left < right <= width and 0 <= top < bottom <= height


@given(st.booleans(), st.sampled_from([32, 100]), st.sampled_from([None, 64]))
def test_regions_of_a_crop_against_plain_arithmetic(mirror: bool, size: int, teacher_size: int | None) -> None:
    height, width, side = 80, 120, teacher_size or size
    view = View(size, mirror, crop=(0.25, 0.25, 0.75, 0.75))  # pixels 30 to 90 and 20 to 60
    boxes = np.array(
        [
            [40, 30, 60, 50],  # inside
            [0, 0, 20, 10],  # outside
            [26, 30, 46, 50],  # four fifths inside
            [20, 30, 40, 50],  # half inside
            [80, 50, 120, 80],  # a corner inside
        ],
        dtype=np.float32,
    )
    moved, in_view = view.regions(boxes, height, width, teacher_size)
    assert in_view.tolist() == [0, 2]
    scale = np.array([side / 60, side / 40] * 2)
    expected = ((boxes[[0, 2]] - [30, 20, 30, 20]) * scale).clip(0, side)
    if mirror:
        expected = np.stack([side - expected[:, 2], expected[:, 1], side - expected[:, 0], expected[:, 3]], axis=1)
    np.testing.assert_allclose(moved, expected, atol=1e-3)


@given(fractions, st.integers(1, 900), st.integers(1, 900), st.integers(1, 300))
def test_a_reduced_image_never_has_less_than_the_view(corner_and_size, height: int, width: int, size: int) -> None:
    x0, y0, w, h = corner_and_size
    for view in (View(size), View(size, crop=(x0, y0, min(x0 + w, 1), min(y0 + h, 1)))):
        left, top, right, bottom = view.crop_in_pixels(height, width)
        shorter = min(right - left, bottom - top)
        reduction = view.reduction(height, width)
        assert reduction == 1 or shorter / reduction >= size
        assert reduction == 8 or shorter / (2 * reduction) < size
        assert view.reduction(height, width, 2 * size) <= reduction


@given(
    st.tuples(st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0.2, 1), st.floats(0.2, 1)),
    st.integers(20, 700), st.integers(20, 700), st.integers(0, 2**31),
)  # fmt: skip
def test_the_same_regions_are_in_view_at_every_size(corner_and_size, height: int, width: int, seed: int) -> None:
    """Else the student's region i would be another one than the teacher's."""
    x0, y0, w, h = corner_and_size
    view = View(32, crop=(x0, y0, min(x0 + w, 1), min(y0 + h, 1)))
    # Sides in quarters of the crop's: boxes of which exactly three quarters are in view are common.
    left, top, right, bottom = view.crop_in_pixels(height, width)
    generator = np.random.default_rng(seed)
    low = generator.integers(-4, 4, (200, 2)) / 4 * [right - left, bottom - top] + [left, top]
    boxes = np.concatenate([low, low + generator.integers(1, 5, (200, 2)) / 4 * [right - left, bottom - top]], axis=1)
    expected = view.regions(boxes.astype(np.float32), height, width)[1]
    for size in (31, 224, 672, 1001):
        np.testing.assert_array_equal(view.regions(boxes.astype(np.float32), height, width, size)[1], expected)


edges = st.tuples(st.integers(0, 60), st.sampled_from([0, 0.25, 0.5, 0.875]))


@given(edges, edges, edges, edges, st.integers(1, 40), st.integers(0, 1000))
def test_a_part_is_resized_as_by_pillow(left, top, right, bottom, side: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (170, 190, 3), dtype=np.uint8)
    box = (sum(left), sum(top), 190 - sum(right), 170 - sum(bottom))
    # Pixels outside of the box have no influence, not even at its edge.
    x0, y0, x1, y1 = (left[0], top[0], 190 - right[0], 170 - bottom[0])
    inside = (left[1], top[1], x1 - x0 - right[1], y1 - y0 - bottom[1])
    part = Image.fromarray(image[y0:y1, x0:x1])
    expected = np.asarray(part.resize((side, side), Image.Resampling.BILINEAR, box=inside))
    pixels = resize_part(image, box, side)
    assert pixels.shape == (3, side, side) and pixels.is_contiguous()
    assert np.abs(pixels.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1
