"""Result figures: colors, marks, bars and text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from mlickd.visualization.charts import BLUE, RED
from mlickd.visualization.figures import COLUMN_GAP, COLUMN_WIDTH, MARGIN, draw_result_figure
from mlickd.visualization.image_results import ClassResult, ImageResult


@pytest.fixture
def photo(tmp_path: Path) -> str:
    path = tmp_path / "photo.png"
    Image.new("RGB", (360, 300), "gray").save(path)
    return str(path)


def pixels_of(figure: Image.Image, color: str) -> np.ndarray:
    return (np.asarray(figure) == ImageColor.getrgb(color)).all(axis=-1)


def draw(photo: str, **students: list[bool]) -> Image.Image:
    found = {title: tuple(ClassResult("cat", 0.5, value) for value in correct) for title, correct in students.items()}
    return draw_result_figure(ImageResult("1", photo, ("cat",), found), ["cat"])


def test_right_is_blue_and_wrong_is_red_with_different_marks(photo: str):
    right, wrong, mixed = (draw(photo, A=[a], B=[b]) for a, b in ((True, True), (False, False), (False, True)))
    assert pixels_of(right, BLUE).sum() > 1000 and not pixels_of(right, RED).any()
    assert pixels_of(wrong, RED).sum() > 1000 and not pixels_of(wrong, BLUE).any()
    assert (pixels_of(right, BLUE) != pixels_of(wrong, RED)).sum() > 20, "the marks differ, too"
    half = mixed.width - MARGIN - COLUMN_WIDTH
    assert not pixels_of(mixed, BLUE)[:, :half].any() and not pixels_of(mixed, RED)[:, half:].any()
    one, none = draw(photo, A=[True]), draw(photo)
    assert none.width == one.width == mixed.width - COLUMN_WIDTH - COLUMN_GAP and not pixels_of(none, BLUE).any()


def test_bars_are_proportional_to_scores(photo: str):
    lengths = []
    for score in (0.0, 0.5, 1.0):
        result = ImageResult("1", photo, ("cat",), {"A": (ClassResult("", score, True),)})
        lengths.append(int(pixels_of(draw_result_figure(result, ["cat"]), BLUE).sum(axis=1).max()))
    assert lengths[0] < lengths[1] == pytest.approx(lengths[2] / 2, abs=2)


@pytest.mark.parametrize("size", [(40, 400), (400, 40), (1, 1)])
def test_text_fits_next_to_any_photo(tmp_path: Path, size: tuple[int, int]):
    path = tmp_path / "photo.png"
    Image.new("RGB", size).save(path)
    labels = tuple("a rather long class name\nof two lines" for _ in range(12))
    students = {"A": (ClassResult("cat " * 20, 0.5, None),) * 3, "B": (ClassResult("cat", 0.5, False),) * 3}
    figure = draw_result_figure(ImageResult("1", str(path), labels, students), ["cat"])
    pixels = np.asarray(figure.convert("L"))
    assert (pixels[:8] == 255).all() and (pixels[-8:] == 255).all()
    assert (pixels[:, :8] == 255).all() and (pixels[:, -8:] == 255).all()
