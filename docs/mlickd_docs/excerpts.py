"""Functions and classes, shown as they are in the source."""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

__all__ = ["excerpt"]


def excerpt(root: Path, name: str) -> str:
    """A fenced block of code with a function, method or class, without its docstring.

    Args:
        root: the folder that holds the package.
        name: such as ``mlickd.modeling.losses:image_label_targets`` or ``package.module:Class.method``.

    Raises:
        LookupError: there is no such module, or nothing of that name in it.
    """
    module, _, path = name.partition(":")
    file = root / f"{module.replace('.', '/')}.py"
    if not file.is_file():
        raise LookupError(f"{name}: no file {file}")
    source = file.read_text(encoding="utf-8")
    node: ast.AST = ast.parse(source)
    for part in path.split("."):
        found = [child for child in ast.iter_child_nodes(node) if getattr(child, "name", None) == part]
        if not found:
            raise LookupError(f"{name}: {file} has no {path}")
        (node,) = found
    lines = source.splitlines()
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    docstring = _docstring_lines(node)
    shown = [lines[i - 1] for i in range(first, node.end_lineno + 1) if i not in docstring]
    code = textwrap.dedent("\n".join(shown))
    return f'```python title="{file.relative_to(root).as_posix()}, line {first}"\n{code}\n```'


def _docstring_lines(node: ast.AST) -> range:
    """Numbers of the lines of the docstring; none where it is all that there is."""
    if ast.get_docstring(node) is None or len(node.body) == 1:
        return range(0)
    return range(node.body[0].lineno, node.body[0].end_lineno + 1)
