"""The page of a gallery: data, header, filters, and hostile names as text."""

import base64
import hashlib
import html
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from helpers.browser import page_data
from mlickd.visualization.gallery import write_gallery
from mlickd.visualization.image_results import ClassResult, ImageResult

SCRIPT = "<script>alert(1)</script>"
QUOTE = """x" onerror="alert(1)' & ${7*7} {{ 7*7 }} <!-- """
NAMES = [SCRIPT, QUOTE, "cat"]
BOTH = ["baseline", "distilled"]


@pytest.fixture
def photo(tmp_path: Path) -> str:
    path = tmp_path / "photo.png"
    Image.new("RGB", (64, 48), "gray").save(path)
    return str(path)


def found(*correct: bool | None) -> tuple[ClassResult, ...]:
    return tuple(ClassResult(NAMES[rank % len(NAMES)], 0.9 - 0.1 * rank, value) for rank, value in enumerate(correct))


def write(results: list[ImageResult], folder: Path, title: str = "test") -> Path:
    thresholds = dict.fromkeys(BOTH, np.full(len(NAMES), 0.5))
    return write_gallery(results, NAMES, folder, title=title, mean_average_precision={}, thresholds=thresholds)


def regions() -> Instances:
    instances = Instances((48, 64))
    instances.pred_boxes = Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0], [0.0, 0.0, 64.0, 48.0]]))
    instances.scores, instances.pred_classes = torch.tensor([0.001, 0.7]), torch.tensor([0, 1])
    return instances


def test_hostile_names_are_text_and_the_page_needs_no_other_file(tmp_path: Path, photo: str):
    output = tmp_path / "output" / "gallery"
    ids = [f"../../{SCRIPT}.jpg", "/etc/passwd", QUOTE, "..", "", "ünïcode 猫.jpg"]
    students = dict(zip(BOTH, (found(True, False), found(False, True)), strict=True))
    results = [ImageResult(name, photo, (SCRIPT, QUOTE), students, regions()) for name in ids]
    written = page_data(path := write(results, output, SCRIPT))
    page = path.read_text("utf-8")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [Path(photo), output / "index.html"]
    assert page.count("<script>") == 1, "only the script of the page"
    assert not re.findall(r"<[^>]*\son\w+=", page) and f"<title>{SCRIPT}" not in page
    text = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1]
    assert not set("<>&'") & set(text), "a character could end the script"
    assert [entry["id"] for entry in written["photos"]] == ids and written["classes"] == NAMES

    assert re.findall(r'\s(?:src|href)="([^"]*)"', page) == ["data:,"]
    assert not re.search("https?:|@import", page)
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_photos_are_embedded_with_their_aspect_ratio(tmp_path: Path):
    sizes = [(64, 48), (1000, 500), (30, 2000)]
    results = []
    for number, size in enumerate(sizes):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", size, (200, 100, 50)).save(path)
        results.append(ImageResult(path.name, str(path), ()))
    photos = page_data(write(results, tmp_path / "gallery"))["photos"]
    for (width, height), photo in zip(sizes, photos, strict=True):
        with Image.open(io.BytesIO(base64.b64decode(photo["image"]))) as image:
            assert max(image.size) == min(768, max(width, height))
            assert image.width / image.height == pytest.approx(width / height, rel=0.1)
            assert np.asarray(image.convert("RGB")).mean(axis=(0, 1)) == pytest.approx([200, 100, 50], abs=4)
        assert (photo["width"], photo["height"]) == (width, height)
