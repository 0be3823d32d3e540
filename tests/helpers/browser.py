"""A headless Chromium for tests of pages."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def page_data(path: Path) -> dict:
    """Return the data in the page of a gallery."""
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


@contextmanager
def chromium() -> Iterator:
    """Start a browser with Playwright; skip the test if Playwright or Chromium is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("needs a Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        # Chromium's sandbox does not start as root; the tests open only pages that they wrote.
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser, path: Path, fragment: str = "", **context) -> Iterator:
    """Open a page from disk, and check at the end that it loads only this file and writes nothing to its console."""
    complaints: list[str] = []

    def known(url: str) -> bool:
        return url.startswith("data:") or url.split("#")[0] == path.as_uri()

    tab = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
    page = tab.new_page()
    page.on("console", lambda message: complaints.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: None if known(request.url) else complaints.append(f"request: {request.url}"))
    page.goto(f"{path.as_uri()}{fragment}")
    try:
        yield page
    finally:
        tab.close()
    assert complaints == []


def until(page, expression: str, expected: object = True, seconds: float = 30.0) -> None:
    """Wait until an expression has a value. (The page's policy forbids Playwright's `wait_for_function`.)"""
    end = time.monotonic() + seconds
    while (found := page.evaluate(expression)) != expected:
        assert time.monotonic() < end, f"{expression} is {found!r}, not {expected!r}"
        time.sleep(0.02)
