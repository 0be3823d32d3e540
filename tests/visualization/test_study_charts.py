from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlickd.errors import InputError
from mlickd.visualization.study_charts import draw_class_gains, draw_precision_recall


def colors(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return where an image is blue, and where it is red."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        red, _, blue = np.asarray(image.convert("RGB")).astype(int).transpose(2, 0, 1)
    return blue - red > 100, red - blue > 100


def test_gains_are_right_of_zero_and_losses_left_of_it_best_first(tmp_path: Path) -> None:
    names = ["dog", "$\\frac{$", "nobody"]
    gains = {"distilled": np.array([[-4.0, 5.0, np.nan], [-2.0, 7.0, np.nan]])}
    draw_class_gains(gains, names, tmp_path / "one.png")
    is_blue, is_red = colors(tmp_path / "one.png")
    assert is_blue.sum() > 300 and is_red.sum() > 300
    assert np.nonzero(is_blue)[0].max() < np.nonzero(is_red)[0].min()
    assert np.nonzero(is_red)[1].max() <= np.nonzero(is_blue)[1].min() + 2


def test_many_methods_and_classes_have_room(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    names = [f"class {index}" for index in range(40)]
    sizes = {}
    for count in (1, 7):
        gains = {f"method {index}": generator.normal(size=(3, 40)) for index in range(count)}
        draw_class_gains(gains, names, tmp_path / "gains.png")
        with Image.open(tmp_path / "gains.png") as image:
            sizes[count] = image.size
    assert 2 * sizes[1][0] < sizes[7][0] < 4 * sizes[1][0], "panels are side by side"
    assert sizes[7][1] == 2 * sizes[1][1], "and in rows"
    assert sizes[1][1] > 40 * 20, "each class has its line"


def test_curves_of_precision_over_recall_are_drawn(tmp_path: Path) -> None:
    recall = np.linspace(0.1, 1, 10)
    curves = {"with $x": [(1 - recall / 2, recall), (1 - recall / 3, recall)], "baseline": [(1 - recall, recall)]}
    draw_precision_recall(curves, tmp_path / "plots" / "curves.png")
    is_blue, _ = colors(tmp_path / "plots" / "curves.png")
    assert is_blue.sum() > 200


def test_a_chart_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="plot.png"):
        draw_class_gains({"distilled": np.ones((1, 1))}, ["dog"], tmp_path / "file" / "plot.png")
