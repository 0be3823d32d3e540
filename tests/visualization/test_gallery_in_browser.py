"""The gallery as its readers use it, in a headless Chromium."""

from __future__ import annotations

import base64
import math
import os
import re
import time
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from helpers.browser import chromium, opened, until
from mlickd.visualization.gallery import write_gallery
from mlickd.visualization.results import STUDENTS, ImageResult, Prediction

SCRIPT = "<script>alert(1)</script>"
CAT, DOG, COW = NAMES = [SCRIPT, "dog", "cow & calf"]
SHOWN = ".card:visible"


def said(*rows: tuple[str, float, bool | None]) -> tuple[Prediction, ...]:
    """Rows of class, score and whether it is right; predicted from 0.5 on."""
    return tuple(Prediction(name, score, correct, score >= 0.5) for name, score, correct in rows)


def detections() -> Instances:
    instances = Instances((60, 80))
    instances.pred_boxes = Boxes(torch.tensor([[8.0, 6.0, 40.0, 30.0], [40.0, 30.0, 80.0, 60.0], [0.0, 0.0, 8.0, 6.0]]))
    instances.scores, instances.pred_classes = torch.tensor([0.9, 0.5, 0.3]), torch.tensor([0, 1, 1])
    return instances


def six_results(photo: str) -> list[ImageResult]:
    """Fixed, broken, both right, both wrong, and fixed for the class CAT alone; then one without any label."""
    cat, no_cat = said((CAT, 0.9, True)), said((CAT, 0.2, True))
    missed_dog = said((CAT, 0.9, True), (DOG, 0.4, True))
    wrong = said((COW, 0.8, False), (CAT, 0.2, True))
    maps = {STUDENTS["distilled"]: {CAT: np.array([[1.0, -1.0], [0.5, 0.25]], np.float32)}}
    return [
        ImageResult("fixed", photo, (CAT,), no_cat, cat, detections(), maps),
        ImageResult(f"{SCRIPT}.jpg", photo, (CAT,), cat, no_cat, detections(), maps),
        ImageResult("both right", photo, (CAT,), cat, cat, detections()),
        ImageResult("both wrong", photo, (CAT,), wrong, wrong, detections()),
        ImageResult("cat fixed", photo, (CAT, DOG), said((CAT, 0.1, True), (DOG, 0.1, True)), missed_dog, detections()),
        ImageResult("nothing", photo, (), said((DOG, 0.1, False)), said((DOG, 0.1, False)), detections()),
    ]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery")
    Image.new("RGB", (80, 60), (90, 120, 150)).save(folder / "photo.png")
    results = six_results(str(folder / "photo.png"))
    thresholds = dict.fromkeys(STUDENTS.values(), 0.5)
    return write_gallery(results, NAMES, folder / "gallery", title=f"Predictions {SCRIPT}", thresholds=thresholds)


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


def names_of(page) -> list[str]:
    return page.locator(f"{SHOWN} .name bdi").all_inner_texts()


def counts(page) -> dict[str, int]:
    texts = page.locator("#outcomes button").all_inner_texts()
    return {" ".join(text.split()[:-1]): int(text.split()[-1]) for text in texts}


def test_filters_combine_count_and_are_in_the_address(browser, gallery: Path):
    with opened(browser, gallery) as page:
        everything = names_of(page)
        assert len(everything) == 6 and everything[1] == f"{SCRIPT}.jpg"
        assert counts(page) == {
            "All": 6,
            "Fixed by distillation": 1,
            "Broken by distillation": 1,
            "Both right": 2,
            "Both wrong": 2,
        }
        page.get_by_role("button", name="Fixed").click()
        assert names_of(page) == ["fixed"]
        assert page.inner_text("#count") == "1 of 6 photos"
        page.select_option("#class", label=f"{CAT} (2)")
        assert names_of(page) == ["fixed", "cat fixed"], "of the class alone, as it is chosen"
        assert counts(page)["Fixed by distillation"] == 2 and counts(page)["All"] == 5
        page.get_by_role("button", name="Broken").click()
        assert names_of(page) == ["fixed", f"{SCRIPT}.jpg", "cat fixed"]
        address = page.evaluate("location.hash")
        assert quote(SCRIPT, safe="()").replace("%20", "+") in address.replace("%28", "(").replace("%29", ")")

    with opened(browser, gallery, address) as page:
        assert names_of(page) == ["fixed", f"{SCRIPT}.jpg", "cat fixed"]
        assert page.locator("#outcomes button[aria-pressed=true]").count() == 2
        page.get_by_role("button", name="All").click()
        page.select_option("#class", label=f"{COW} (1)")
        assert names_of(page) == ["both wrong"], "a class is looked for in predictions, too"
        page.get_by_role("button", name="Both right").click()
        assert names_of(page) == [] and "None of 6" in page.inner_text("#count")


def test_right_wrong_and_missed_differ_in_mark_word_and_border(browser, gallery: Path):
    with opened(browser, gallery) as page:
        chips = page.locator(f"{SHOWN}:nth-child(4) .said").first.locator(".chip")
        assert [" ".join(text.split()) for text in chips.all_text_contents()] == [
            f"✗ {COW} (wrong)",
            f"○ {CAT} (missed)",
        ]
        styles = [chip.evaluate("chip => getComputedStyle(chip).borderStyle") for chip in chips.all()]
        assert styles == ["solid", "dashed"]
        assert page.locator(f"{SHOWN}:nth-child(3) .chip").first.text_content().startswith(f"✓ {CAT}")
        assert page.locator(f"{SHOWN}:nth-child(6) .said").first.inner_text().endswith("nothing predicted")


def test_regions_follow_toggle_slider_and_class(browser, gallery: Path):
    with opened(browser, gallery) as page:
        first = page.locator(".card").first
        assert first.locator(".box").count() == 3
        frame, best = first.locator(".frame").bounding_box(), first.locator(".box.best").bounding_box()
        places = [
            (best["x"] - frame["x"]) / frame["width"],
            (best["y"] - frame["y"]) / frame["height"],
            best["width"] / frame["width"],
            best["height"] / frame["height"],
        ]
        assert places == pytest.approx([0.1, 0.1, 0.4, 0.4], abs=0.005)
        for score, expected in ((0.36, 2), (0.49, 2), (0.64, 1), (1.0, 0), (0.0, 3)):
            page.locator("#threshold").fill(str(round(100 * math.sqrt(score))))
            assert first.locator(".box").count() == expected, score
        page.locator("#threshold").press("ArrowRight")
        assert "score=0.0001" in page.evaluate("location.hash")
        alt = first.locator("img").get_attribute("alt")
        assert alt == f"Photo fixed; labels: {CAT}; regions of the teacher: {CAT} 0.90, dog 0.50, dog 0.30"
        page.get_by_label("Teacher's regions").uncheck()
        assert page.locator(".box").count() == 0
        assert first.locator("img").get_attribute("alt") == f"Photo fixed; labels: {CAT}"
        page.get_by_label("Teacher's regions").check()
        page.select_option("#class", label="dog (1)")
        assert page.locator(f"{SHOWN} .box").count() == 2


def test_keys_move_between_photos_and_focus_is_never_lost(browser, gallery: Path):
    with opened(browser, gallery) as page:
        focused = "document.activeElement.dataset.index"
        page.locator(".card").first.focus()
        page.keyboard.press("ArrowRight")
        assert page.evaluate(focused) == "1"
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.evaluate(outline) == "solid"
        page.keyboard.press("Enter")
        assert page.inner_text("#large-name") == f"{SCRIPT}.jpg" and page.locator(SHOWN).count() == 0
        assert page.evaluate("document.activeElement.id") == "large"
        for key, name in (("ArrowRight", "both right"), ("ArrowLeft", f"{SCRIPT}.jpg"), ("ArrowLeft", "fixed")):
            page.keyboard.press(key)
            assert page.inner_text("#large-name") == name, "at once"
        page.keyboard.press("ArrowLeft")
        assert page.inner_text("#large-name") == "fixed", "there is none before the first"
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Escape")
        page.wait_for_selector(SHOWN)
        assert page.locator("#large").is_hidden() and page.evaluate(focused) == "1"


def test_the_large_view_walks_through_what_the_filters_leave(browser, gallery: Path):
    with opened(browser, gallery, "#show=both-right&photo=both+right") as page:
        assert page.inner_text(".place") == "1 of 2"
        page.get_by_role("button", name="Next photo").click()
        assert page.inner_text("#large-name") == "nothing" and page.inner_text(".place") == "2 of 2"
        assert page.get_by_role("button", name="Next photo").is_disabled()
        assert "Labels: none" in page.inner_text(".lists")
        page.get_by_role("link", name="All photos").click()
        assert names_of(page) == ["both right", "nothing"]


def test_large_view_shows_scores_thresholds_and_names_of_regions(browser, gallery: Path):
    with opened(browser, gallery, "#photo=both+wrong") as page:
        rows = [" ".join(text.split()) for text in page.locator(".list").first.locator("li").all_inner_texts()]
        assert rows == [f"✗ {COW} wrong 0.80", f"○ {CAT} missed 0.20"]
        bar, mark = page.locator(".bar").first.bounding_box(), page.locator(".bar b").first.bounding_box()
        assert mark["x"] + 1 - bar["x"] == pytest.approx(bar["width"] / 2, abs=1.5)
        labels = page.locator(".box-name:visible")
        assert sorted(labels.all_inner_texts())[:1] == [f"{CAT} 0.90"]
        places = [label.bounding_box() for label in labels.all()]
        for number, one in enumerate(places):
            for other in places[:number]:
                apart = (
                    one["x"] + one["width"] <= other["x"] + 0.5
                    or other["x"] + other["width"] <= one["x"] + 0.5
                    or one["y"] + one["height"] <= other["y"] + 0.5
                    or other["y"] + other["height"] <= one["y"] + 0.5
                )
                assert apart


def test_activation_map_lies_over_the_photo(browser, gallery: Path):
    with opened(browser, gallery, "#photo=fixed") as page:
        assert page.locator("canvas").count() == 0
        (button,) = page.locator("button.row").all()
        button.click()
        assert page.locator("button.row[aria-pressed=true]").count() == 1
        pixels = page.evaluate(
            "() => { const canvas = document.querySelector('canvas');"
            " return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]; }"
        )
        cells = np.array(pixels).reshape(2, 2, 4)
        assert cells[0, 0].tolist() == [255, 120, 0, 200] and cells[0, 1, 3] == 200 and cells[0, 1, 2] > cells[0, 1, 0]
        assert cells[1, 1, 3] == pytest.approx(50, abs=2)
        canvas, frame = page.locator("canvas").bounding_box(), page.locator("#large .frame").bounding_box()
        assert canvas == pytest.approx(frame, abs=0.5)
        said_of_it = f"Class activation map of {CAT} distilled: cells from -1.00 to 1.00, mean 0.19"
        assert said_of_it in page.inner_text("figcaption")
        assert page.evaluate("document.activeElement.className").startswith("row"), "focus stays on the button"
        page.locator("button.row[aria-pressed=true]").click()
        assert page.locator("canvas").count() == 0


@pytest.mark.parametrize("fragment", ["", "#photo=fixed&map=1:" + quote(CAT)])
def test_a_phone_shows_it_without_scrolling_sideways(browser, gallery: Path, fragment: str):
    phone = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"}
    with opened(browser, gallery, fragment, **phone) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert sum(map(int, re.findall(r"\d+", dark)[:3])) < 150
        smallest = page.locator("button:visible, a:visible, select:visible").evaluate_all(
            "found => Math.min(...found.map(one => one.getBoundingClientRect().height))"
        )
        assert smallest >= 34, "pixels to press on"


def test_wrong_addresses_do_no_harm(browser, gallery: Path):
    wrong = ["#class=none&show=x,fixed&score=x", "#photo=none&map=9:x", "#score=7&map=:", "#%00"]
    for fragment in [*wrong, "#map=5:dog&photo=fixed"]:
        with opened(browser, gallery, fragment) as page:
            assert page.locator(".card").count() >= 1


def test_photos_whose_labels_nobody_knows(browser, tmp_path: Path):
    Image.new("RGB", (80, 60)).save(tmp_path / "photo.png")
    found = said((DOG, 0.9, None), (CAT, 0.2, None))
    results = [ImageResult(str(number), str(tmp_path / "photo.png"), None, found, found) for number in range(2)]
    with opened(browser, write_gallery(results, NAMES, tmp_path, title="test")) as page:
        assert page.locator("#outcomes button").count() == 0 and page.locator("#regions").count() == 0
        assert page.locator(".chip").first.text_content().strip() == "– dog (predicted, not judged)"
        page.select_option("#class", label="dog (2)")
        assert page.locator(SHOWN).count() == 2


@pytest.mark.slow
def test_a_thousand_photos_are_placed_as_they_come_into_view(browser, tmp_path: Path):
    """Says how long the page takes to its first photo, which depends on the machine and is not asserted."""
    generator = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    results = []
    for number in range(1000):
        coarse = generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        path = tmp_path / "photos" / f"{number}.jpg"
        Image.fromarray(coarse).resize((480, 360)).save(path)
        results.append(ImageResult(path.name, str(path), (DOG,), said((DOG, 0.9, True)), said((DOG, 0.4, True))))
    index = write_gallery(results, NAMES, tmp_path / "gallery", title="test")
    start = time.perf_counter()
    with opened(browser, index) as page:
        until(page, "document.querySelector('.card img').naturalWidth > 0")
        seconds = time.perf_counter() - start
        print(f"\n{os.path.getsize(index) / 1e6:.1f} MB, {seconds:.2f} s to the first photo")
        placed = page.locator(".card").count()
        assert placed <= 120
        page.keyboard.press("End")
        until(page, f"document.querySelectorAll('.card').length > {placed}")
        page.evaluate("location.hash = 'photo=999.jpg'")
        until(page, "document.querySelector('#large img')?.naturalWidth > 0")
        source = page.locator("#large img").get_attribute("src")
        with Image.open(path) as image:
            assert len(base64.b64decode(source.split(",")[1])) > 500 and image.size == (480, 360)
        page.keyboard.press("Escape")
        until(page, "document.activeElement.dataset.index", "999")
