from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from hypothesis import given, settings
from hypothesis import strategies as st

from mlickd.visualization.regions import RegionVisualizer, _label_positions, draw_regions, top_regions

NAMES = ["cat", "a class $\\frac{$"]


def detections(boxes: list, scores: list[float], size: tuple[int, int]) -> Instances:
    instances = Instances(size)
    instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.scores = torch.tensor(scores)
    instances.pred_classes = torch.arange(len(scores)) % len(NAMES)
    return instances


def is_green(image: np.ndarray) -> np.ndarray:
    red, green, blue = (image[..., channel].astype(int) for channel in range(3))
    return (green > 150) & (red < 80) & (blue < 120)


def test_top_regions_are_sorted_and_keep_the_order_of_equal_scores():
    instances = detections([[0, 0, n, n] for n in range(1, 5)], [0.2, 0.9, 0.2, 0.5], (9, 9))
    assert top_regions(instances, 3).pred_boxes.tensor[:, 2].tolist() == [2, 4, 1]


def test_edges_of_the_box_are_green_and_its_middle_is_the_photo():
    photo = np.full((600, 800, 3), 90, np.uint8)
    drawn = draw_regions(photo, detections([[200, 150, 600, 450]], [0.8], (600, 800)), NAMES)
    assert drawn.shape == photo.shape
    green = is_green(drawn)
    assert green[300, 200:210].any() and green[300, 590:600].any()
    assert green[150:160, 400].any() and green[440:450, 400].any()
    assert (drawn[250:400, 300:500] == 90).all()
    assert (drawn[500:, :] == 90).all()


def test_boxes_are_scaled_with_the_photo():
    photo = np.full((60, 80, 3), 90, np.uint8)
    drawn = draw_regions(photo, detections([[20, 15, 60, 45]], [0.8], (60, 80)), NAMES, side=800)
    assert drawn.shape == (600, 800, 3)
    assert is_green(drawn)[300, 200:210].any()


def test_a_box_at_the_border_is_seen_on_all_sides():
    drawn = draw_regions(np.zeros((480, 640, 3), np.uint8), detections([[0, 0, 640, 480]], [0.8], (480, 640)), NAMES)
    green = is_green(drawn)
    assert green[200, 1] and green[200, -2] and green[1, 500] and green[-2, 300]


def test_the_best_region_has_the_thickest_line():
    boxes = [[50, 300, 250, 450], [350, 300, 550, 450]]
    drawn = draw_regions(np.zeros((600, 600, 3), np.uint8), detections(boxes, [0.2, 0.9], (600, 600)), NAMES)
    thin, thick = (is_green(drawn)[375, left - 5 : left + 15].sum() for left in (50, 350))
    assert thick >= 2 * thin > 0


@pytest.mark.parametrize("side", [480, 1600])
def test_lines_and_labels_grow_with_the_picture(side: int):
    photo = np.zeros((120, 120, 3), np.uint8)
    drawn = draw_regions(photo, detections([[30, 40, 90, 100]], [0.9], (120, 120)), NAMES, side=side)
    line = is_green(drawn)[3 * side // 4, : side // 2].sum()
    assert line == pytest.approx(side / 110, abs=2)
    label = drawn[: side // 3 - 1]
    rows = np.flatnonzero(is_green(label).any(axis=1))
    assert np.ptp(rows) > side / 70


def test_only_the_best_regions_are_drawn():
    boxes = [[10, 300, 200, 500], [300, 300, 500, 500]]
    drawn = draw_regions(np.zeros((600, 600, 3), np.uint8), detections(boxes, [0.2, 0.9], (600, 600)), NAMES, top_k=1)
    assert is_green(drawn)[:, 300:].any() and not is_green(drawn)[:, :250].any()


@pytest.mark.parametrize("size", [(40, 30), (10, 900), (900, 10), (1, 1)])
def test_any_size_of_photo(size: tuple[int, int]):
    height, width = size
    drawn = draw_regions(np.zeros((*size, 3), np.uint8), detections([[0, 0, width, height]], [0.5], size), NAMES)
    assert max(drawn.shape) == max(480, *size) and is_green(drawn).any()


def test_no_regions_leave_the_photo():
    photo = np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8)
    assert (draw_regions(photo, detections([], [], (500, 500)), NAMES) == photo).all()
    assert (draw_regions(photo, None, NAMES) == photo).all()


def test_drawing_leaves_the_detections_and_matplotlib_as_they_were():
    instances = detections([[0, 0, 90, 90]], [0.5], (60, 60))
    before = dict(matplotlib.rcParams)
    draw_regions(np.zeros((60, 60, 3), np.uint8), instances, NAMES)
    assert instances.pred_boxes.tensor.tolist() == [[0, 0, 90, 90]]
    assert dict(matplotlib.rcParams) == before


def test_labels_do_not_cover_each_other():
    visualizer = RegionVisualizer(np.zeros((480, 640, 3), np.uint8))
    visualizer.draw_regions(np.array([[100, 100, 300, 300.0]] * 10), [f"label {rank}" for rank in range(10)])
    renderer = visualizer.output.canvas.get_renderer()
    extents = [text.get_window_extent(renderer) for text in visualizer.output.ax.texts]
    assert 2 <= len(extents) < 10, "those without a place are left out"
    assert visualizer.output.ax.texts[0].get_text() == "label 0"
    for number, extent in enumerate(extents):
        assert extent.x0 >= 0 and extent.x1 <= 640 and extent.y0 >= 0 and extent.y1 <= 480
        assert not any(extent.overlaps(other) for other in extents[:number])


@settings(max_examples=50)
@given(st.tuples(*[st.floats(0, 100)] * 4), st.floats(1, 100), st.floats(1, 100))
def test_label_positions_are_inside_the_picture(corners: tuple, width: float, height: float):
    x0, x1, y0, y1 = *sorted(corners[:2]), *sorted(corners[2:])
    for x, y in _label_positions(np.array([x0, y0, x1, y1]), width, height, 100, 100):
        assert 0 <= x <= 100 - width + 1e-9 and 0 <= y <= 100 - height + 1e-9
