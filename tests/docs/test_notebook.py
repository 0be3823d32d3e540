"""The notebook, and its page."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from mlickd_docs.notebook import notebook_as_markdown

NOTEBOOK = Path(__file__).parents[2] / "projects" / "MLICKD" / "notebooks" / "walkthrough.ipynb"


def test_it_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 8
    assert not any(cell.outputs or cell.execution_count for cell in code)


def test_its_page_has_every_cell() -> None:
    page = notebook_as_markdown(NOTEBOOK)
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        shown = f"```python\n{cell.source}\n```" if cell.cell_type == "code" else cell.source
        assert shown in page


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_it_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTEBOOK_OUTPUT", str(tmp_path))
    monkeypatch.setenv("NOTEBOOK_LENGTH", "0.05")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=1200, kernel_name="python3").execute()
    text = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "distilled " in text
    figures = [output for cell in notebook.cells for output in cell.get("outputs", ()) if "image/png" in str(output)]
    assert len(figures) >= 3, "a picture, the result figure, the curves"
