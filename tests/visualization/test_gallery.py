from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mlickd.errors import InputError
from mlickd.visualization.gallery import photo_side, safe_file_name, write_gallery, write_result_figures
from mlickd.visualization.gallery_data import EDGE, first_region_threshold, photo_data
from mlickd.visualization.results import ImageResult, Prediction

SCRIPT = "<script>alert(1)</script>"
QUOTE = """x" onerror="alert(1)' & ${7*7} {{ 7*7 }} <!-- """
NAMES = [SCRIPT, QUOTE, "cat"]
VOID = {"meta", "link", "img", "br", "input"}
TITLES = ["Baseline", "Distilled"]


class Page(HTMLParser):
    """What a browser would see, and whether every element is closed."""

    def __init__(self, path: Path):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list):
        self.elements.append((tag, dict(attrs)))
        self.texts.append("")
        self.inside = True
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str):
        assert self.open.pop() == tag
        self.inside = False

    def handle_data(self, data: str):
        if self.texts and self.inside:
            self.texts[-1] += data

    def all(self, tag: str, **attributes: str) -> list[dict]:
        """Attributes of the elements, and their text up to the next tag under `text`."""
        return [
            {**found, "text": text}
            for (name, found), text in zip(self.elements, self.texts, strict=True)
            if name == tag and all(found.get(key) == value for key, value in attributes.items())
        ]

    @property
    def data(self) -> dict:
        return json.loads(self.all("script", id="data")[0]["text"])


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
    instances.scores, instances.pred_classes = torch.tensor([0.001, 0.7]), torch.tensor([0, 1])
    return instances


def test_hostile_names_are_text_and_nothing_else_is_written(tmp_path: Path, photo: str):
    output = tmp_path / "output" / "gallery"
    ids = [f"../../{SCRIPT}.jpg", "/etc/passwd", QUOTE, "..", "", "a\\b:c*?.png", "ünïcode 猫.jpg", "CON"]
    results = [
        ImageResult(name, photo, (SCRIPT, QUOTE), found(True, False), found(False, True), regions()) for name in ids
    ]
    page = Page(write_gallery(results, NAMES, output, title=SCRIPT, mean_average_precision={SCRIPT: 50.0}))
    executed = [script for script in page.all("script") if "type" not in script]
    assert len(executed) == 1, "the page's own"
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    assert page.all("title")[0]["text"].strip() == SCRIPT and page.all("h1")[0]["text"].strip() == SCRIPT
    assert [photo["id"] for photo in page.data["photos"]] == ids and page.data["classes"] == NAMES
    data = page.all("script", id="data")[0]["text"]
    assert not set("<>&'") & set(data), "no character that could end the script"
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "photo.png"] == [
        output / "index.html"
    ]


def test_the_page_loads_nothing_and_runs_its_own_script_alone(tmp_path: Path, photo: str):
    results = [ImageResult(str(number), photo, ("cat",), found(True), found(False)) for number in range(3)]
    page = Page(write_gallery(results, NAMES, tmp_path, title="test"))
    links = [attributes[key] for _, attributes in page.elements for key in ("src", "href") if key in attributes]
    assert links == ["data:,"]
    assert "http:" not in page.source and "https:" not in page.source and "@import" not in page.source
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag in ("script", "style"):
        (text,) = [element["text"] for element in page.all(tag) if "type" not in element]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy and "unsafe" not in policy


def test_every_photo_is_in_the_page(tmp_path: Path):
    sizes = [(64, 48), (1000, 500), (30, 2000)]
    results = []
    for number, size in enumerate(sizes):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", size, (200, 100, 50)).save(path)
        results.append(ImageResult(path.name, str(path), ()))
    page = Page(write_gallery(results, NAMES, tmp_path / "gallery", title="test"))
    for number, (width, height) in enumerate(sizes):
        picture = page.all("script", id=f"picture-{number}")[0]
        with Image.open(io.BytesIO(base64.b64decode(picture["text"]))) as image:
            assert max(image.size) == min(768, max(width, height))
            assert image.width / image.height == pytest.approx(width / height, rel=0.1)
            assert np.asarray(image.convert("RGB")).mean(axis=(0, 1)) == pytest.approx([200, 100, 50], abs=4)
        photo = page.data["photos"][number]
        assert (photo["width"], photo["height"]) == (width, height)


def test_what_the_page_knows_of_a_photo():
    maps = {"cat": np.array([[-1.0, 0.0], [1.0, 3.0]], np.float32), SCRIPT: np.zeros((2, 3), np.float32)}
    said = (*found(True), Prediction(QUOTE, 0.30004, True, False), Prediction("cat", 0.1, False, False))
    result = ImageResult("1", "", (SCRIPT, QUOTE), None, said, regions(), {TITLES[1]: maps})
    data = photo_data(result, NAMES, (64, 48))
    assert data["labels"] == [0, 1]
    assert data["said"] == [[[0, 0.9, "right"], [1, 0.3, "missed"], [2, 0.1, "below"]]]
    assert data["regions"] == [
        [1, 0.7, 0, 0, EDGE, EDGE],
        [0, 0.001, EDGE // 8, round(EDGE / 6), EDGE * 5 // 8, round(EDGE * 5 / 6)],
    ]
    (of_student,) = data["maps"]
    values = of_student[2]
    assert (values["width"], values["height"], values["low"], values["high"], values["mean"]) == (2, 2, -1, 3, 0.75)
    steps = np.frombuffer(base64.b64decode(values["cells"]), np.uint8)
    assert np.abs(values["low"] + steps / 255 * 4 - maps["cat"].ravel()).max() < 4 / 255
    assert set(base64.b64decode(of_student[0]["cells"])) == {0} and len(base64.b64decode(of_student[0]["cells"])) == 6
    unknown = photo_data(ImageResult("1", "", None), NAMES, (64, 48))
    assert unknown["labels"] is None and unknown["regions"] is None and unknown["said"] == []


@pytest.mark.parametrize(
    ("scores", "photos", "expected"),
    [([], 2, 0.1), ([0.9, 0.8, 0.7, 0.6], 1, 0.1), ([0.09, 0.05, 0.02, 0.01], 1, 0.02), ([0.03], 5, 0.03)],
)
def test_about_three_regions_of_a_photo_are_shown_at_first(scores: list[float], photos: int, expected: float):
    found = [{"regions": [[0, score, 0, 0, 1, 1] for score in scores]}, *[{"regions": None}] * (photos - 1)]
    assert first_region_threshold(found) == expected


@pytest.mark.parametrize(
    ("students", "outcomes"),
    [
        ({"baseline": found(False), "distilled": found(True)}, ["fixed", "broken", "both-right", "both-wrong"]),
        ({"distilled": found(True)}, ["right", "wrong"]),
        ({}, []),
    ],
)
def test_filters_fit_the_students_that_there_are(tmp_path: Path, photo: str, students: dict, outcomes: list[str]):
    data = Page(write_gallery([ImageResult("1", photo, ("cat",), **students)], NAMES, tmp_path, title="test")).data
    assert list(data["outcomes"]) == outcomes
    assert len(data["students"]) == len(students) == len(data["thresholds"])
    unknown = Page(write_gallery([ImageResult("1", photo, None, **students)], NAMES, tmp_path, title="test")).data
    assert unknown["outcomes"] == {}


def test_the_header_and_the_thresholds(tmp_path: Path, photo: str):
    results = [ImageResult(str(number), photo, ("cat",), found(False), found(True)) for number in range(3)]
    means = {TITLES[0]: 58.64, TITLES[1]: 60.0}
    thresholds = {TITLES[0]: 0.5, TITLES[1]: np.array([0.1, 0.2, 0.3])}
    index = write_gallery(results, NAMES, tmp_path, title="test", mean_average_precision=means, thresholds=thresholds)
    text = " ".join(re.sub("<[^>]*>", "", index.read_text()).split())
    assert "3 photos Baseline: mAP 58.6 Distilled: mAP 60.0" in text
    assert Page(index).data["thresholds"] == [[0.5, 0.5, 0.5], [0.1, 0.2, 0.3]]


def test_a_second_gallery_replaces_the_first(tmp_path: Path, photo: str):
    write_gallery([ImageResult("first", photo, ())], NAMES, tmp_path / "gallery", title="test")
    index = write_gallery([ImageResult("second", photo, ())], NAMES, tmp_path / "gallery", title="test")
    assert [of_photo["id"] for of_photo in Page(index).data["photos"]] == ["second"]


def test_bad_input_is_named(tmp_path: Path, photo: str):
    with pytest.raises(InputError, match="no image to show"):
        write_gallery([], NAMES, tmp_path, title="test")
    with pytest.raises(InputError, match="photo.png.*another folder"):
        write_gallery([ImageResult("1", photo, ())], NAMES, photo, title="test")
    with pytest.raises(InputError, match="missing.jpg"):
        write_gallery([ImageResult("1", str(tmp_path / "missing.jpg"), ())], NAMES, tmp_path, title="test")


def test_result_figures_are_a_picture_for_each_photo(tmp_path: Path, photo: str):
    results = [ImageResult(f"../{number}", photo, ("cat",), found(False), found(True)) for number in range(2)]
    paths = write_result_figures(results, NAMES, tmp_path / "figures")
    assert sorted((tmp_path / "figures").iterdir()) == paths and len(set(paths)) == 2
    with Image.open(paths[0]) as figure:
        assert figure.width > 1000


@given(st.integers(1, 5000))
def test_more_photos_are_smaller_but_never_too_small(count: int):
    assert 400 <= photo_side(count + 1) <= photo_side(count) <= 768
    assert count > 700 or count * photo_side(count) ** 2 <= 1.01 * 200 * 768**2


@given(st.text(), st.text())
def test_file_names_are_safe_and_unique(first: str, second: str):
    names = {safe_file_name(1, first), safe_file_name(2, second)}
    assert len(names) == 2
    assert all(re.fullmatch(r"\d{4}[A-Za-z0-9_-]{0,61}", name) for name in names)
