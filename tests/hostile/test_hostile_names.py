"""Names of classes, photos and models from somebody else's data: text in pages, and no paths outside the output."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlickd.prediction.prediction import Prediction
from mlickd.visualization.gallery import safe_file_name
from mlickd.visualization.pages import page_template
from mlickd.visualization.prediction_figure import PredictionPictures

NAMES = [
    "<script>alert(1)</script>",
    "\"onload='x'",
    "$\\frac{$",
    "$x$ y",
    "../../out",
    "/etc/passwd",
    "a&b",
    "\x1b[31m",
]


class Tags(HTMLParser):
    """The tags of a page, and attributes that run something."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: set[str] = set()
        self.events: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.add(tag)
        self.events += [name for name, _ in attrs if name.startswith("on")]


@pytest.mark.parametrize("name", NAMES)
def test_plots_escape_names(name: str) -> None:
    plot = {"title": name, "picture": "", "notes": [name]}
    page = Tags(page_template("plots.html").render(title=name, plots=[plot], missing=[name]))
    assert "script" not in page.tags and not page.events


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_shows_names_as_text(name: str) -> None:
    scores = np.array([0.9], dtype=np.float32)
    page = Tags(Prediction(name, (name,), scores, scores)._repr_html_())
    assert page.tags == {"table", "caption", "tr", "td", "div"} and not page.events


def test_pictures_stay_in_their_folder(tmp_path: Path) -> None:
    """Whatever photos are called, and whatever their classes."""
    (tmp_path / "photos").mkdir()
    scores = np.full(len(NAMES), 0.9, dtype=np.float32)
    pictures = PredictionPictures(tmp_path / "pictures")
    for name in ("<b>.png", "..x.png", "$a$.png", "\\x1b[31m.png", "photo 0.png"):
        path = tmp_path / "photos" / name
        Image.new("RGB", (20, 20)).save(path)
        prediction = Prediction(str(path), tuple(NAMES), scores, scores)
        pictures.write(prediction, prediction.top(8))
    assert len(list((tmp_path / "pictures").iterdir())) == 5
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "pictures"}


def test_every_template_escapes() -> None:
    """But for the scripts and styles of this project, nothing is put in as it is."""
    folder = Path(__file__).parents[2] / "projects/MLICKD/mlickd/visualization/templates"
    for path in folder.glob("*.html"):
        for line in path.read_text().splitlines():
            assert "| safe" not in line or "{{ ' class=\"published\"' | safe if" in line, (path.name, line)
    assert page_template("page.html").environment.autoescape is True


@pytest.mark.parametrize("name", [*NAMES, "", ".", "..", "a/../../b", "x" * 500])
def test_a_name_for_a_file_is_no_path(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{safe_file_name(3, name)}.png"
    path.touch()
    assert path.parent == tmp_path and path.is_file()
