"""A notebook as a page."""

from __future__ import annotations

from pathlib import Path

import nbformat

__all__ = ["notebook_as_markdown"]


def notebook_as_markdown(path: Path) -> str:
    """Text cells as they are, and code cells as fenced blocks; outputs are not kept in the repository."""
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(f"```python\n{c.source}\n```" if c.cell_type == "code" else c.source for c in cells)
