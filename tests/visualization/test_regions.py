"""Regions on photos: boxes, lines and labels."""

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from mlickd.visualization.regions import draw_regions, top_regions

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


@pytest.mark.parametrize("scale", [1, 10])
def test_boxes_are_scaled_with_the_photo(scale: int):
    height, width = 600 // scale, 800 // scale
    photo = np.full((height, width, 3), 90, np.uint8)
    box = [width / 4, height / 4, width * 3 / 4, height * 3 / 4]
    drawn = draw_regions(photo, detections([box], [0.8], (height, width)), NAMES, side=800)
    assert drawn.shape == (600, 800, 3)
    green = is_green(drawn)
    assert green[300, 200:210].any() and green[300, 590:600].any()
    assert green[150:160, 400].any() and green[440:450, 400].any()
    assert (drawn[250:400, 300:500] == 90).all() and (drawn[500:, :] == 90).all()
    whole = is_green(draw_regions(photo, detections([[0, 0, width, height]], [0.8], (height, width)), NAMES, side=800))
    assert whole[300, 1] and whole[300, -2] and whole[1, 700] and whole[-2, 300], "a box at the border"


@pytest.mark.parametrize("size", [(40, 30), (10, 900), (1, 1)])
def test_photos_of_any_size_are_drawn_and_inputs_stay(size: tuple[int, int]):
    height, width = size
    photo, instances = np.zeros((*size, 3), np.uint8), detections([[0, 0, 2 * width, height]], [0.5], size)
    drawn = draw_regions(photo, instances, NAMES, side=480)
    assert max(drawn.shape) == 480 and is_green(drawn).any() and not photo.any()
    assert instances.pred_boxes.tensor.tolist() == [[0, 0, 2 * width, height]]
    for nothing in (None, detections([], [], size)):
        assert (draw_regions(photo, nothing, NAMES, side=max(size)) == photo).all()
