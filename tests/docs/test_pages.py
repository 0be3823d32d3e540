"""Generated parts of the documentation, the built site, and the notebook."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import hooks
import mlickd
from mlickd.cli import COMMANDS
from mlickd_docs.tables import PAGES, RESULTS, all_comparisons, fill_tables

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
NOTEBOOK = ROOT / "projects" / "MLICKD" / "notebooks" / "walkthrough.ipynb"
# Elements that make a browser load another file.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)[^>]*\ssrc="([^"]+)"|<link[^>]*\srel="(?:stylesheet|icon|preload|preconnect)"[^>]*>"""
)


def test_tables_show_the_published_results() -> None:
    pages = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
    assert [name for name, page in pages.items() if page != fill_tables(page)] == [], "run docs/mlickd_docs/tables.py"
    # A changed value is noticed, in a table of a page and in a row of the README.
    for name in ("when.md", "README.md"):
        changed = pages[name].replace("| 50.8 ", "| 99.9 ")
        assert fill_tables(changed) == pages[name] != changed
    assert (RESULTS / "README.md").read_text(encoding="utf-8") == all_comparisons()


def test_readme_and_citation_show_the_version() -> None:
    assert f"version {mlickd.__version__}" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"\nversion: {mlickd.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_page_of_commands_shows_every_script() -> None:
    page = (DOCS / "commands.md").read_text()
    scripts = {path.stem for path in (ROOT / "tools").glob("*.py")}
    shown = set(COMMANDS.values()) | set(re.findall(r'command\("(\w+)"\)', page))
    assert "{{ commands() }}" in page and scripts == shown
    assert "usage: mlickd tune-thresholds" in hooks.command("tune_thresholds")


@pytest.mark.slow
def test_the_site_is_complete_and_loads_only_its_files(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert built.returncode == 0, built.stderr
    pages = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.html")}
    assert len(pages) > 25
    for name, page in pages.items():
        assert not any("//" in match[0] for match in FETCHED.finditer(page)), name
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//", sheet.read_text()), sheet
    method = pages["method.html"]
    assert method.count("<math ") > 20 and "arithmatex" not in method
    formulas = "".join(re.findall(r"<math.*?</math>", method, re.DOTALL))
    assert "\\" not in re.sub(r"<[^>]*>", "", formulas), "unknown LaTeX commands"


def test_the_notebook_is_stored_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.outputs or cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


def test_the_notebook_runs(tiny_scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(tiny_scenes / "tiny", tmp_path / "datasets" / "few")
    monkeypatch.setenv("NOTEBOOK_OUTPUT", str(tmp_path))
    monkeypatch.setenv("NOTEBOOK_LENGTH", "0")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in str(output) for output in outputs) >= 3
