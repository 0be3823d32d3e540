"""Hostile names of classes and photos stay text in pages, and figures stay in their folder."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from mlickd.prediction import Prediction
from mlickd.visualization.figures import draw_prediction, save_figure_of_photo
from mlickd.visualization.gallery import TEMPLATES

NAMES = ["<script>alert(1)</script>", "\"onload='x'", "$\\frac{$", "../../out", "/etc/passwd", "a&b", "\x1b[31m"]


def test_pages_show_names_as_text() -> None:
    scores = np.full(len(NAMES), 0.9, dtype=np.float32)
    page = Prediction(NAMES[0], tuple(NAMES), scores, scores)._repr_html_()
    assert set(re.findall(r"<\s*(\w+)", page)) == {"table", "caption", "tr", "td", "div"}
    assert not re.search(r"<[^>]*\son\w+=", page), "an attribute that runs a script"
    assert TEMPLATES.autoescape is True


def test_copies_of_photos_stay_in_their_folder(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "figures").mkdir()
    for name in ("<b>.png", "..x.png", "$a$.png", "\\x1b[31m.png"):
        path = tmp_path / "photos" / name
        Image.new("RGB", (20, 20)).save(path)
        figure = draw_prediction(str(path), [(label, 0.9, True) for label in NAMES], None, NAMES)
        save_figure_of_photo(figure, tmp_path / "figures", str(path))
    assert len(list((tmp_path / "figures").iterdir())) == 4
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "figures"}
