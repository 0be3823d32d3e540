from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch
from detectron2.structures import Boxes, Instances
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mlickd.errors import InputError
from mlickd.visualization.gallery import safe_file_name, write_gallery
from mlickd.visualization.results import ImageResult, Prediction

SCRIPT = "<script>alert(1)</script>"
QUOTE = """x" onerror="alert(1)' & ${7*7} {{ 7*7 }}"""
NAMES = [SCRIPT, QUOTE, "cat"]
VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """What a browser would see, and whether every element is closed."""

    def __init__(self, path: Path):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str):
        assert self.open.pop() == tag

    def handle_data(self, data: str):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data

    def all(self, tag: str, **attributes: str) -> list[dict]:
        return [
            found
            for name, found in self.elements
            if name == tag and all(found.get(key) == value for key, value in attributes.items())
        ]


@pytest.fixture
def photo(tmp_path: Path) -> str:
    path = tmp_path / "photo.png"
    Image.new("RGB", (64, 48), "gray").save(path)
    return str(path)


def found(*correct: bool | None) -> tuple[Prediction, ...]:
    return tuple(Prediction(NAMES[rank % len(NAMES)], 0.9 - 0.1 * rank, value) for rank, value in enumerate(correct))


def regions() -> Instances:
    instances = Instances((48, 64))
    instances.pred_boxes = Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0], [0.0, 0.0, 64.0, 48.0]]))
    instances.scores, instances.pred_classes = torch.tensor([0.7, 0.001]), torch.tensor([0, 1])
    return instances


def test_hostile_names_are_text_and_stay_inside(tmp_path: Path, photo: str):
    output = tmp_path / "output" / "gallery"
    ids = [f"../../{SCRIPT}.jpg", "/etc/passwd", QUOTE, "..", "", "a\\b:c*?.png", "ünïcode 猫.jpg", "CON"]
    results = [
        ImageResult(name, photo, (SCRIPT, QUOTE), found(True, False), found(False, True), regions()) for name in ids
    ]
    index = write_gallery(results, NAMES, output, title=SCRIPT, mean_average_precision={SCRIPT: 50.0})
    page = Page(index)
    assert len(page.all("script")) == 1, "the page's own"
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    assert page.text.count(SCRIPT) >= 2 + len(ids) and page.text.count(QUOTE) >= len(ids)
    assert "49" not in page.text
    assert all(SCRIPT in image["alt"] and "<0.01" in image["alt"] for image in page.all("img"))

    files = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    assert {path.name for path in tmp_path.iterdir()} == {"output", "photo.png"}
    assert {path.name for path in output.parent.iterdir()} == {"gallery"}
    assert len(files) == 1 + 2 * len(ids)
    assert all(re.fullmatch(r"(photos/|figures/)?[A-Za-z0-9_-]+\.(html|jpg|png)", name) for name in files)


def test_the_page_refers_to_local_files_alone_and_all_of_them_exist(tmp_path: Path, photo: str):
    results = [ImageResult(str(number), photo, ("cat",), found(True), found(False)) for number in range(3)]
    index = write_gallery(results, NAMES, tmp_path / "gallery", title="test")
    page = Page(index)
    links = [attributes[key] for _, attributes in page.elements for key in ("src", "href") if key in attributes]
    local = [link for link in links if not link.startswith("data:")]
    assert len(local) == 6
    for link in local:
        assert "//" not in link and not link.startswith("/")
        with Image.open(index.parent / unquote(link)) as image:
            image.verify()
    text = index.read_text()
    assert "http" not in text and "url(" not in text and "@import" not in text
    for image in page.all("img"):
        with Image.open(index.parent / image["src"]) as opened:
            assert opened.size == (int(image["width"]), int(image["height"]))
        assert image["loading"] == "lazy" and image["alt"]


def test_right_and_wrong_have_a_colour_a_mark_and_a_word(tmp_path: Path, photo: str):
    result = ImageResult("1", photo, ("cat",), found(True, False, None))
    page = Page(write_gallery([result], NAMES, tmp_path, title="test"))
    rows = [attributes["class"] for attributes in page.all("li") if "class" in attributes]
    assert rows == ["right", "wrong", "uncounted"]
    text = " ".join(page.text.split())
    for mark, name, word in zip("✓✗–", NAMES, rows, strict=True):
        assert f"{mark} {name} ({word})" in text


@pytest.mark.parametrize(
    ("students", "filters"),
    [
        ({"without": found(False), "distilled": found(True)}, ["", "fixed", "broken", "both-right", "both-wrong"]),
        ({"distilled": found(True)}, ["", "right", "wrong"]),
        ({}, []),
    ],
)
def test_filters_fit_the_students_that_there_are(tmp_path: Path, photo: str, students: dict, filters: list[str]):
    page = Page(write_gallery([ImageResult("1", photo, ("cat",), **students)], NAMES, tmp_path, title="test"))
    assert [button["data-filter"] for button in page.all("button")] == filters
    assert len(page.all("h3")) == len(students)
    assert page.all("article")[0]["data-outcome"] == (filters[1] if filters else "")
    assert ("regions" in page.text) is False


def test_filter_counts_and_the_header(tmp_path: Path, photo: str):
    results = [
        ImageResult("1", photo, ("cat",), found(False), found(True)),
        ImageResult("2", photo, ("cat",), found(False), found(True)),
        ImageResult("3", photo, (), found(False), found(True)),
    ]
    means = {"Without distillation": 58.64, "With distillation": 60.0}
    page = Page(write_gallery(results, NAMES, tmp_path, title="test", mean_average_precision=means))
    text = " ".join(page.text.split())
    assert "3 photos Without distillation: mAP 58.6 With distillation: mAP 60.0" in text
    assert "All 3 Fixed by distillation 2 Broken by distillation 0" in text
    assert "True labels: none" in text
    assert [article["data-outcome"] for article in page.all("article")] == ["fixed", "fixed", ""]


def test_a_second_gallery_replaces_the_first(tmp_path: Path, photo: str):
    write_gallery([ImageResult("1", photo, ("first",))], NAMES, tmp_path / "gallery", title="test")
    index = write_gallery([ImageResult("1", photo, ("second",))], NAMES, tmp_path / "gallery", title="test")
    assert "second" in Page(index).text and "first" not in Page(index).text


def test_bad_input_is_named(tmp_path: Path, photo: str):
    with pytest.raises(InputError, match="no image to show"):
        write_gallery([], NAMES, tmp_path, title="test")
    with pytest.raises(InputError, match="photo.png.*another folder"):
        write_gallery([ImageResult("1", photo, ())], NAMES, photo, title="test")
    with pytest.raises(InputError, match="missing.jpg"):
        write_gallery([ImageResult("1", str(tmp_path / "missing.jpg"), ())], NAMES, tmp_path, title="test")


@given(st.text(), st.text())
def test_file_names_are_safe_and_unique(first: str, second: str):
    names = {safe_file_name(1, first), safe_file_name(2, second)}
    assert len(names) == 2
    assert all(re.fullmatch(r"\d{4}[A-Za-z0-9_-]{0,61}", name) for name in names)
