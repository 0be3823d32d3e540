from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image, ImageColor

from mlickd.visualization.regions import GREEN
from mlickd.visualization.result_figure import BLUE, COLUMN_WIDTH, MARGIN, RED, _wrap, draw_result_figure, figure_font
from mlickd.visualization.results import ImageResult, Prediction


@pytest.fixture
def photo(tmp_path: Path) -> str:
    path = tmp_path / "photo.png"
    Image.new("RGB", (360, 300), "gray").save(path)
    return str(path)


def count(figure: Image.Image, color: str) -> int:
    return int((np.asarray(figure) == ImageColor.getrgb(color)).all(axis=-1).sum())


def rows(*correct: bool | None) -> tuple[Prediction, ...]:
    return tuple(Prediction("cat", 0.5, value) for value in correct)


def test_right_ones_are_blue_and_wrong_ones_red(photo: str):
    right = draw_result_figure(ImageResult("1", photo, ("cat",), rows(True, True), rows(True, True)), ["cat"])
    wrong = draw_result_figure(ImageResult("1", photo, ("cat",), rows(False, False), rows(False, False)), ["cat"])
    mixed = draw_result_figure(ImageResult("1", photo, ("cat",), rows(False, False), rows(True, True)), ["cat"])
    assert count(right, BLUE) > 1000 and count(right, RED) == 0
    assert count(wrong, RED) > 1000 and count(wrong, BLUE) == 0
    half = mixed.width - MARGIN - COLUMN_WIDTH
    assert count(mixed.crop((0, 0, half, mixed.height)), BLUE) == 0
    assert count(mixed.crop((half, 0, mixed.width, mixed.height)), RED) == 0


def test_right_and_wrong_differ_without_color(photo: str):
    figures = [
        draw_result_figure(ImageResult("1", photo, ("cat",), rows(correct)), ["cat"]) for correct in (True, False)
    ]
    shapes = [
        (np.asarray(figure) == ImageColor.getrgb(color)).all(axis=-1)
        for figure, color in zip(figures, (BLUE, RED), strict=True)
    ]
    assert (shapes[0] != shapes[1]).sum() > 20


def test_bars_are_as_long_as_the_scores(photo: str):
    lengths = []
    for score in (0.0, 0.25, 0.5, 1.0):
        result = ImageResult("1", photo, ("cat",), (Prediction("", score, True),))
        blue = (np.asarray(draw_result_figure(result, ["cat"])) == ImageColor.getrgb(BLUE)).all(axis=-1)
        bar = blue.sum(axis=1) == blue.sum(axis=1).max()
        lengths.append(int(blue[bar].sum(axis=1).max()))
    assert lengths[1] < lengths[2] < lengths[3]
    assert lengths[2] == pytest.approx(lengths[3] / 2, abs=2)


@pytest.mark.parametrize("students", [{}, {"baseline": rows(True)}, {"distilled": rows(True)}])
def test_parts_that_are_missing_are_left_out(photo: str, students: dict):
    full = draw_result_figure(ImageResult("1", photo, ("cat",), rows(True), rows(True)), ["cat"])
    part = draw_result_figure(ImageResult("1", photo, ("cat",), **students), ["cat"])
    assert part.width == full.width - COLUMN_WIDTH - 36
    assert (count(part, BLUE) > 0) == bool(students)


def test_regions_are_on_the_photo(photo: str):
    regions = Instances((300, 360))
    regions.pred_boxes = Boxes(torch.tensor([[60.0, 60.0, 300.0, 240.0]]))
    regions.scores, regions.pred_classes = torch.tensor([0.7]), torch.tensor([0])
    with_regions = draw_result_figure(ImageResult("1", photo, ("cat",), regions=regions), ["cat"])
    baseline = draw_result_figure(ImageResult("1", photo, ("cat",)), ["cat"])
    assert with_regions.size == baseline.size
    assert count(with_regions.crop((0, 0, MARGIN + 720, with_regions.height)), GREEN) > 1000
    assert count(baseline, GREEN) == 0


@pytest.mark.parametrize("size", [(40, 400), (400, 40), (1, 1)])
def test_text_fits_beside_any_photo(tmp_path: Path, size: tuple[int, int]):
    path = tmp_path / "photo.png"
    Image.new("RGB", size).save(path)
    labels = tuple("a rather long class name\nof two lines" for _ in range(12))
    figure = draw_result_figure(ImageResult("1", str(path), labels, rows(True) * 3, rows(False) * 3), ["cat"])
    pixels = np.asarray(figure.convert("L"))
    assert (pixels[:8] == 255).all() and (pixels[-8:] == 255).all()
    assert (pixels[:, :8] == 255).all() and (pixels[:, -8:] == 255).all()


@pytest.mark.parametrize("text", ["", "one", "one two three four five six", "x" * 500, "cat, " * 40])
def test_wrapped_lines_fit(text: str):
    lines = _wrap(text, figure_font(), 200)
    assert all(figure_font().getlength(line) <= 200 for line in lines)
    if max(map(len, text.split()), default=0) < 10:
        assert " ".join(lines).split() == text.split()
