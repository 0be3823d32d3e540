"""The built site: complete, and readable without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]

# What a browser fetches by itself.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)[^>]*\ssrc="([^"]+)"|<link[^>]*\srel="(?:stylesheet|icon|preload|preconnect)"[^>]*>"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` does it: a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.slow
def test_pages_fetch_nothing_from_anywhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        for match in FETCHED.finditer(page.read_text(encoding="utf-8")):
            assert "//" not in match[0], f"{page.name}: {match[0]}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


@pytest.mark.slow
def test_generated_parts_are_on_their_pages(site: Path) -> None:
    method = (site / "method.html").read_text(encoding="utf-8")
    assert method.count("<math ") > 20 and "roi_feature_loss" in method and "arithmatex" not in method
    assert 'id="kd.regions.top_k"' in (site / "configuration.html").read_text(encoding="utf-8")
    assert 'href="configuration.html#kd.prediction.loss"' in method, "keys lead to their explanation"
    assert "usage: train_net.py" in (site / "commands.html").read_text(encoding="utf-8")
    assert "select_regions" in (site / "api" / "distillation.html").read_text(encoding="utf-8")


def test_a_citation_names_the_paper_and_the_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["preferred-citation"]["title"].endswith("Knowledge Distillation from Weakly-Supervised Detection")
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert citation["version"] == version
