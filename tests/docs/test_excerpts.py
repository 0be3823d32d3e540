"""Functions that are shown as they are in the source."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

import pytest

import mlickd
from mlickd.distillation.distillers.roi_features import roi_feature_loss
from mlickd_docs.excerpts import excerpt

ROOT = Path(mlickd.__file__).parents[1]
PAGES = Path(__file__).parents[2] / "docs"


def test_a_function_is_shown_without_its_docstring() -> None:
    shown = excerpt(ROOT, "mlickd.distillation.distillers.roi_features:roi_feature_loss")
    title, *code, end = shown.splitlines()
    line = roi_feature_loss.__code__.co_firstlineno
    assert title == f'```python title="mlickd/distillation/distillers/roi_features.py, line {line}"' and end == "```"
    (function,) = ast.parse("\n".join(code)).body
    assert function.name == "roi_feature_loss" and ast.get_docstring(function) is None
    assert "distances = (weights**2)" in shown


def test_a_decorated_method_is_dedented(tmp_path: Path) -> None:
    source = '''
    class A:
        @property
        def b(self) -> int:
            """Text."""
            return 1
    '''
    (tmp_path / "m.py").write_text(textwrap.dedent(source))
    expected = '```python title="m.py, line 3"\n@property\ndef b(self) -> int:\n    return 1\n```'
    assert excerpt(tmp_path, "m:A.b") == expected


@pytest.mark.parametrize("name", ["mlickd.nowhere:f", "mlickd.errors:f", "mlickd.errors:InputError.f"])
def test_what_is_not_there_is_an_error(name: str) -> None:
    with pytest.raises(LookupError, match=re.escape(name)):
        excerpt(ROOT, name)


def test_the_pages_name_only_what_is_there() -> None:
    names = [name for page in PAGES.rglob("*.md") for name in re.findall(r'code\("([^"]+)"\)', page.read_text())]
    assert len(names) > 10
    for name in names:
        excerpt(ROOT, name)
