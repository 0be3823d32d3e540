"""Result figures of any photo and any names."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlickd.visualization.figures import draw_prediction, draw_result_figure, save_figure_of_photo
from mlickd.visualization.image_results import ClassResult, ImageResult


@pytest.mark.parametrize("size", [(40, 400), (400, 40), (1, 1)])
def test_text_fits_next_to_any_photo(tmp_path: Path, size: tuple[int, int]):
    path = tmp_path / "photo.png"
    Image.new("RGB", size).save(path)
    labels = tuple("a rather long class name\nof two lines" for _ in range(12))
    students = {"A": (ClassResult("cat " * 20, 0.5, None),) * 3, "B": (ClassResult("cat", 0.5, False),) * 3}
    figure = draw_result_figure(ImageResult("1", str(path), labels, students), ["cat"])
    border = np.array(figure)
    border[8:-8, 8:-8] = 255
    assert (border == 255).all()


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
