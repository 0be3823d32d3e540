"""A part of the package imports only from the parts above it in docs/contributing.md."""

import ast
import re
from pathlib import Path

import mlickd

PACKAGE = Path(mlickd.__file__).parent
MAP = Path(__file__).parents[1] / "docs" / "contributing.md"


def imported(path: Path) -> set[str]:
    """Parts of the package, by the name below ``mlickd``, that a module imports with absolute imports."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    modules = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0]
    modules += [name.name for node in nodes if isinstance(node, ast.Import) for name in node.names]
    return {module.split(".")[1] for module in modules if module.startswith("mlickd.")}


def test_imports_point_down():
    order = re.findall(r"^    (\w+?)(?:/|\.py) ", MAP.read_text(encoding="utf-8"), re.MULTILINE)
    paths = [path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem in order]
    assert {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in paths} <= set(order)
    for path in paths:
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        upward = {name for name in imported(path) - {part} if order.index(name) >= order.index(part)}
        assert not upward, f"{path} imports {upward}"
