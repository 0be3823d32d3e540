from __future__ import annotations

import base64
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from mlickd.errors import InputError
from mlickd.evaluation.comparison_table import Table
from mlickd.visualization.comparison_page import write_comparison_page

HOSTILE = "<script>alert('x')</script>\"&"


class Page(HTMLParser):
    """Its tags with their attributes, and its text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def write_page(path: Path, chart: Path) -> None:
    table = Table([("", ""), ("All", "mAP"), ("published (paper)", "mAP")], [[HOSTILE, "failed", "70.9"]])
    write_comparison_page(
        path,
        title=HOSTILE,
        tables={"All methods": table},
        notes=[HOSTILE],
        failures=[HOSTILE],
        charts={"Training": chart},
        runs=Table([("", ""), ("", "seed")], [["distilled", "1"]]),
        commands=[f"python tools/train_net.py {HOSTILE}"],
        machine=HOSTILE,
    )


def test_the_page_is_one_file_in_which_names_are_text(tmp_path: Path) -> None:
    chart = tmp_path / "chart.png"
    Image.new("RGB", (8, 8), "red").save(chart)
    write_page(tmp_path / "comparison.html", chart)
    text = (tmp_path / "comparison.html").read_text()
    assert text.startswith("<!DOCTYPE html>")
    page = Page(text)
    assert not [tag for tag, _ in page.tags if tag == "script"]
    assert page.text.count(HOSTILE) == 7, "in two titles, table, note, failure, command and machine"
    images = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert [base64.b64decode(image.partition(",")[2]) for image in images] == [chart.read_bytes()]
    links = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert all(link.startswith("data:") for link in links), "nothing is loaded from elsewhere"


def test_what_failed_and_what_was_published_is_marked(tmp_path: Path) -> None:
    chart = tmp_path / "chart.png"
    Image.new("RGB", (8, 8)).save(chart)
    write_page(tmp_path / "comparison.html", chart)
    cells = [
        attributes["class"].split()
        for tag, attributes in Page((tmp_path / "comparison.html").read_text()).tags
        if tag == "td" and "class" in attributes
    ]
    assert cells[:2] == [["failed"], ["published"]]
    with pytest.raises(InputError, match="give another folder"):
        write_page(tmp_path / "missing" / "comparison.html", chart)
