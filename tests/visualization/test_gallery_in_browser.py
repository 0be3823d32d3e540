"""The gallery as readers use it, in a headless Chromium."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from helpers.browser import chromium, opened, until
from mlickd.visualization.gallery import write_gallery
from mlickd.visualization.image_results import STUDENTS, ClassResult, ImageResult

CAT, DOG, COW = NAMES = ["<script>alert(1)</script>", "dog", "cow & calf"]
SHOWN = ".card:visible"


def rows(*classes: tuple[str, float, bool | None]) -> tuple[ClassResult, ...]:
    """Return results of (class, score, whether it is right); scores from 0.5 are predicted."""
    return tuple(ClassResult(name, score, correct, score >= 0.5) for name, score, correct in classes)


def write(results: list[ImageResult], folder: Path, title: str) -> Path:
    thresholds = dict.fromkeys(STUDENTS, np.full(len(NAMES), 0.5))
    return write_gallery(results, NAMES, folder, title=title, mean_average_precision={}, thresholds=thresholds)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write photos that are fixed, broken, right, wrong, fixed only for CAT, and without labels."""
    folder = tmp_path_factory.mktemp("gallery")
    Image.new("RGB", (80, 60), (90, 120, 150)).save(folder / "photo.png")
    regions = Instances((60, 80))
    regions.pred_boxes = Boxes(torch.tensor([[8.0, 6.0, 40.0, 30.0], [40.0, 30.0, 80.0, 60.0], [0.0, 0.0, 8.0, 6.0]]))
    regions.scores, regions.pred_classes = torch.tensor([0.9, 0.5, 0.3]), torch.tensor([0, 1, 1])
    maps = {"distilled": {CAT: np.array([[1.0, -1.0], [0.5, 0.25]], np.float32)}}
    cat, no_cat = rows((CAT, 0.9, True)), rows((CAT, 0.2, True))
    wrong, nothing = rows((COW, 0.8, False), (CAT, 0.2, True)), rows((DOG, 0.1, False))
    missed_dog, missed_both = rows((CAT, 0.9, True), (DOG, 0.4, True)), rows((CAT, 0.1, True), (DOG, 0.1, True))
    results = [
        ImageResult(name, str(folder / "photo.png"), labels, {"baseline": one, "distilled": other}, regions, maps)
        for name, labels, one, other in (
            ("fixed", (CAT,), no_cat, cat),
            (f"{CAT}.jpg", (CAT,), cat, no_cat),
            ("both right", (CAT,), cat, cat),
            ("both wrong", (CAT,), wrong, wrong),
            ("cat fixed", (CAT, DOG), missed_both, missed_dog),
            ("nothing", (), nothing, nothing),
        )
    ]
    return write(results, folder / "gallery", f"Predictions {CAT}")


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


def shown_names(page) -> list[str]:
    return page.locator(f"{SHOWN} .name bdi").all_inner_texts()


def counts(page) -> list[int]:
    """Return the numbers on the buttons: all, fixed, broken, both right, both wrong."""
    return [int(text.split()[-1]) for text in page.locator("#outcomes button").all_inner_texts()]


def test_filters_and_regions(browser, gallery: Path):
    with opened(browser, gallery) as page:
        assert len(shown_names(page)) == 6 and shown_names(page)[1] == f"{CAT}.jpg" and counts(page) == [6, 1, 1, 2, 2]
        # Right, wrong and missed differ in mark, word and border.
        chips = page.locator(f"{SHOWN}:nth-child(4) .results").first.locator(".chip")
        texts = [" ".join(text.split()) for text in chips.all_text_contents()]
        assert texts == [f"✗ {COW} (wrong)", f"○ {CAT} (missed)"]
        borders = [chip.evaluate("chip => getComputedStyle(chip).borderStyle") for chip in chips.all()]
        assert borders == ["solid", "dashed"]
        assert page.locator(f"{SHOWN}:nth-child(6) .results").first.inner_text().endswith("nothing predicted")
        # Regions depend on slider, checkbox and class.
        first = page.locator(".card").first
        frame, best = first.locator(".frame").bounding_box(), first.locator(".box.best").bounding_box()
        assert (best["x"] - frame["x"]) / frame["width"] == pytest.approx(0.1, abs=0.005)
        assert best["height"] / frame["height"] == pytest.approx(0.4, abs=0.005)
        for score, expected in ((0.36, 2), (0.64, 1), (1.0, 0), (0.0, 3)):
            page.locator("#threshold").fill(str(round(100 * math.sqrt(score))))
            assert first.locator(".box").count() == expected, score
        page.locator("#threshold").press("ArrowRight")
        assert "score=0.0001" in page.evaluate("location.hash")
        alt = f"Photo fixed; labels: {CAT}; regions of the teacher: {CAT} 0.90, dog 0.50, dog 0.30"
        assert first.locator("img").get_attribute("alt") == alt
        page.get_by_label("Teacher's regions").uncheck()
        assert page.locator(".box").count() == 0
        page.get_by_label("Teacher's regions").check()
        # Filters combine, and the address has all of them.
        page.get_by_role("button", name="Fixed").click()
        assert shown_names(page) == ["fixed"] and page.inner_text("#count") == "1 of 6 photos"
        page.select_option("#class", label=f"{CAT} (2)")
        assert shown_names(page) == ["fixed", "cat fixed"] and counts(page)[:2] == [5, 2], "only this class counts"
        assert page.locator(f"{SHOWN} .box").count() == 2
        page.get_by_role("button", name="Broken").click()
        address = page.evaluate("location.hash")
    with opened(browser, gallery, address) as page:
        assert shown_names(page) == ["fixed", f"{CAT}.jpg", "cat fixed"]
        page.get_by_role("button", name="All").click()
        page.select_option("#class", label=f"{COW} (1)")
        assert shown_names(page) == ["both wrong"], "a prediction is enough"
        page.get_by_role("button", name="Both right").click()
        assert shown_names(page) == [] and "None of 6" in page.inner_text("#count")
    for fragment in ("#class=none&show=x,fixed&score=x", "#photo=none&map=9:x", "#%00", "#map=5:dog&photo=fixed"):
        with opened(browser, gallery, fragment) as page:
            assert page.locator(".card").count() >= 1


def test_the_large_view_keys_and_activation_maps(browser, gallery: Path):
    with opened(browser, gallery) as page:
        page.locator(".card").first.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        for key, name in ((None, f"{CAT}.jpg"), ("ArrowRight", "both right"), ("ArrowLeft", f"{CAT}.jpg")):
            if key:
                page.keyboard.press(key)
            assert page.inner_text("#large-name") == name and page.evaluate("document.activeElement.id") == "large"
        page.keyboard.press("Escape")
        page.wait_for_selector(SHOWN)
        assert page.evaluate("document.activeElement.dataset.index") == "1", "the focus is not lost"
    with opened(browser, gallery, "#show=both-right&photo=both+right") as page:
        assert page.inner_text(".place") == "1 of 2", "the filters hide the other photos"
        page.get_by_role("button", name="Next photo").click()
        assert page.inner_text("#large-name") == "nothing" and "Labels: none" in page.inner_text(".lists")
        assert page.get_by_role("button", name="Next photo").is_disabled()
    with opened(browser, gallery, "#photo=both+wrong") as page:
        texts = [" ".join(text.split()) for text in page.locator(".list").first.locator("li").all_inner_texts()]
        assert texts == [f"✗ {COW} wrong 0.80", f"○ {CAT} missed 0.20"]
        bar, mark = page.locator(".bar").first.bounding_box(), page.locator(".bar b").first.bounding_box()
        assert mark["x"] + 1 - bar["x"] == pytest.approx(bar["width"] / 2, abs=1.5), "the threshold"
        assert f"{CAT} 0.90" in page.locator(".box-name:visible").all_inner_texts()
    phone = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"}
    with opened(browser, gallery, "#photo=fixed", **phone) as page:
        page.locator("button.row").click()
        until(page, "document.querySelector('.map').naturalWidth", 2)
        layer, frame = page.locator(".map").bounding_box(), page.locator("#large .frame").bounding_box()
        assert layer == pytest.approx(frame, abs=0.5)
        with Image.open(io.BytesIO(page.locator("#large .frame").screenshot())) as image:
            assert image.getpixel((9, 9))[0] > 180 and image.getpixel((image.width - 9, 9))[2] > 180, "orange and blue"
        caption = f"Where the distilled student sees {CAT}. Values from -1.00 to 1.00, mean 0.19."
        assert page.inner_text("figcaption") == page.locator(".map").get_attribute("alt") == caption
        assert page.evaluate("document.documentElement.scrollWidth") == 360, "no scrolling sideways"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(17, 19, 23)"
        page.locator("button.row[aria-pressed=true]").click()
        assert page.locator(".map").count() == 0


def test_photos_are_added_as_they_come_into_view(browser, tmp_path: Path):
    Image.new("RGB", (80, 60)).save(tmp_path / "photo.png")
    students = {"distilled": rows((DOG, 0.9, None), (CAT, 0.2, None))}
    results = [ImageResult(str(number), str(tmp_path / "photo.png"), None, students) for number in range(300)]
    with opened(browser, write(results, tmp_path, "test")) as page:
        assert page.locator("#outcomes button").count() == page.locator("#regions").count() == 0
        assert page.locator(".chip").first.text_content().strip() == "– dog (predicted, label unknown)"
        placed = page.locator(".card").count()
        assert placed <= 120
        page.keyboard.press("End")
        until(page, f"document.querySelectorAll('.card').length > {placed}")
        page.evaluate("location.hash = 'photo=299'")
        until(page, "document.querySelector('#large img')?.naturalWidth > 0")
        page.keyboard.press("Escape")
        until(page, "document.activeElement.dataset.index", "299")
