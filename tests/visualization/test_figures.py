"""Result figures: colors, marks, bars and text."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from mlickd.visualization.figures import (
    COLUMN_GAP,
    COLUMN_WIDTH,
    MARGIN,
    draw_prediction,
    draw_result_figure,
    save_figure_of_photo,
)
from mlickd.visualization.image_results import BLUE, RED, ClassResult, ImageResult


@pytest.fixture
def photo(tmp_path: Path) -> str:
    path = tmp_path / "photo.png"
    Image.new("RGB", (360, 300), "gray").save(path)
    return str(path)


def find_color(figure: Image.Image, color: str) -> np.ndarray:
    return (np.asarray(figure) == ImageColor.getrgb(color)).all(axis=-1)


def draw(photo: str, **students: list[bool]) -> Image.Image:
    found = {title: tuple(ClassResult("cat", 0.5, value) for value in correct) for title, correct in students.items()}
    return draw_result_figure(ImageResult("1", photo, ("cat",), found), ["cat"])


def test_right_is_blue_and_wrong_is_red_with_different_marks(photo: str):
    right, wrong, mixed = (draw(photo, A=[a], B=[b]) for a, b in ((True, True), (False, False), (False, True)))
    assert find_color(right, BLUE).sum() > 1000 and not find_color(right, RED).any()
    assert find_color(wrong, RED).sum() > 1000 and not find_color(wrong, BLUE).any()
    assert (find_color(right, BLUE) != find_color(wrong, RED)).sum() > 20, "the marks differ, too"
    half = mixed.width - MARGIN - COLUMN_WIDTH
    assert not find_color(mixed, BLUE)[:, :half].any() and not find_color(mixed, RED)[:, half:].any()
    one, none = draw(photo, A=[True]), draw(photo)
    assert none.width == one.width == mixed.width - COLUMN_WIDTH - COLUMN_GAP and not find_color(none, BLUE).any()


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


def test_figures_with_hostile_names_stay_in_their_folder(tmp_path: Path) -> None:
    labels = ["<script>alert(1)</script>", "\"onload='x'", "$\\frac{$", "../../out", "/etc/passwd", "a&b", "\x1b[31m"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "figures").mkdir()
    for name in ("<b>.png", "..x.png", "$a$.png", "\\x1b[31m.png"):
        path = tmp_path / "photos" / name
        Image.new("RGB", (20, 20)).save(path)
        figure = draw_prediction(str(path), [(label, 0.9, True) for label in labels], None, labels)
        save_figure_of_photo(figure, tmp_path / "figures", str(path))
    assert len(list((tmp_path / "figures").iterdir())) == 4
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "figures"}
