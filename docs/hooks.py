"""Hooks of MkDocs. Pages are Jinja templates that call functions of this module to show parts of the repository."""

from __future__ import annotations

import ast
import contextlib
import html
import inspect
import io
import os
import pkgutil
import posixpath
import re
import runpy
import sys
import textwrap
from importlib.resources import files as package_files
from pathlib import Path
from unittest import mock

from jinja2 import Environment, StrictUndefined
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from mlickd.cli import COMMANDS, GROUPS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PROJECT = ROOT / "projects" / "MLICKD"
# Formulas as pymdownx.arithmatex writes them in its generic mode.
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
_LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")
NOTEBOOK = "projects/MLICKD/notebooks/walkthrough.ipynb"


def shown_files() -> dict[str, str]:
    """Return the files of the repository that pages show, each with the name of its page."""
    shown = {"projects/MLICKD/mlickd/config.py": "configuration.md", NOTEBOOK: "walkthrough.ipynb"}
    for page in DOCS.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        shown.update(dict.fromkeys(re.findall(r'include\("(.+)"\)', text), page.name))
    results = (PROJECT / "results").glob("*.json")
    return shown | {f"projects/MLICKD/results/{path.name}": f"comparisons.md#{path.stem}" for path in results}


SHOWN = shown_files()


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a font for formulas, and the notebook."""
    # STIX Two Math (SIL Open Font License). System fonts often lack sizes and positions that formulas need.
    font = str(package_files("ziamath.fonts") / "STIXTwoMath-Regular.ttf")
    files.append(File.generated(config, "assets/maths.ttf", abs_src_path=font))
    files.append(File.generated(config, SHOWN[NOTEBOOK], abs_src_path=str(ROOT / NOTEBOOK)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in the template of a page, and change links to files of the repository to links to pages."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.globals = {"code": code, "command": command, "commands": commands, "include": include}
    try:
        return environment.from_string(link_pages(markdown, "docs")).render()
    except Exception as error:
        raise PluginError(f"{page.file.src_uri}: {error}") from error


def on_page_content(html_text: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Convert formulas to MathML and docstring roles to code; mark options."""
    text = re.sub(r":(?:class|func|meth|mod|attr):<code>~?([^<]*)</code>", r"<code>\1</code>", html_text)
    text = FORMULA.sub(mathml, text)
    return re.sub(r"<code>(-[^\s<]+(?: [^\s<]+)?)</code>", r'<code class="option">\1</code>', text)


def include(file: str) -> str:
    """Return the Markdown of a file of the repository, for a page in the top folder of the documentation."""
    return link_pages((ROOT / file).read_text(encoding="utf-8"), posixpath.dirname(file))


def link_pages(markdown: str, folder: str) -> str:
    """Change links that are relative to a folder of the repository to links between pages in `docs/`."""

    def link(found: re.Match) -> str:
        text, (path, anchor, section) = found[1], found[2].partition("#")
        if not path or "://" in path:
            return found[0]
        path = posixpath.normpath(posixpath.join(folder, path))
        path = SHOWN.get(path) or posixpath.relpath(path, "docs")
        return f"{text}({path}{anchor}{section})"

    return _LINK.sub(link, markdown)


def mathml(formula: re.Match) -> str:
    """Return a formula as MathML, which browsers render without scripts."""
    element, latex = formula.groups()
    converted = convert(html.unescape(latex).strip(), display="block" if element == "div" else "inline")
    return f'<{element} class="formula">{converted}</{element}>'


def code(name: str) -> str:
    """Return the source of a function or class, given as ``package.module:Class.method``, without its docstring."""
    item = pkgutil.resolve_name(name)
    item = inspect.unwrap(getattr(item, "fget", item))
    lines, first = inspect.getsourcelines(item)
    lines = textwrap.dedent("".join(lines)).splitlines()
    node = ast.parse("\n".join(lines)).body[0]
    if ast.get_docstring(node) and len(node.body) > 1:
        del lines[node.body[0].lineno - 1 : node.body[0].end_lineno]
    file = Path(inspect.getsourcefile(item)).relative_to(PROJECT)
    return "\n".join([f'```python title="{file.as_posix()}, line {first}"', *lines, "```"])


def command(module: str, name: str = "") -> str:
    """Return a heading for a script in `tools/`, and its help.

    Args:
        module: name of the script without suffix.
        name: name of the `mlickd` command; empty if the script is not a command.
    """
    script, printed = f"tools/{module}.py", io.StringIO()
    with (
        mock.patch.object(sys, "argv", [script, "--help"]),
        mock.patch.dict(os.environ, {"COLUMNS": "100", "NO_COLOR": "1"}),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
    ):
        runpy.run_path(str(ROOT / script), run_name="__main__")
    called = f"`mlickd {name}`, or `{script}`" if name else f"`{script}`"
    title = name or module
    return f"### {title} {{ #{title} }}\n\n{called}\n\n```text\n{printed.getvalue().rstrip()}\n```"


def commands() -> str:
    """Return the help of all commands of `mlickd`, by group."""
    parts = []
    for group, members in GROUPS.items():
        parts += [f"## {group}", *(command(COMMANDS[name], name) for name in members)]
    return "\n\n".join(parts)
