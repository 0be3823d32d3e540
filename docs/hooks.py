"""MkDocs asks here: pages are templates, and some of what they show is made from the source."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url
from tabulate import tabulate

from mlickd.cli import GROUPS
from mlickd.evaluation.published import PUBLISHED
from mlickd_docs.commands import command_help
from mlickd_docs.configuration import key_anchor, read_sections, render_sections
from mlickd_docs.estimates import training_estimates
from mlickd_docs.excerpts import excerpt
from mlickd_docs.inclusion import Inclusions
from mlickd_docs.maths import MATHS_FONT, with_mathml
from mlickd_docs.notebook import notebook_as_markdown

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "projects" / "MLICKD"
CONFIGURATION = "configuration.md"

_inclusions: Inclusions


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Find out which page includes what; add the files that included text links to, and the font of the formulas."""
    global _inclusions
    pages = {file.src_uri: file.content_string for file in files.documentation_pages()}
    try:
        _inclusions = Inclusions(ROOT, pages)
    except LookupError as error:
        raise PluginError(str(error)) from error
    for asset in sorted(_inclusions.assets):
        if not (ROOT / asset).is_file():
            raise PluginError(f"an included text links to {asset}, which is not there")
        files.append(File.generated(config, f"repository/{asset}", content=(ROOT / asset).read_text("utf-8")))
    files.append(File.generated(config, "assets/maths.ttf", abs_src_path=str(MATHS_FONT)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in what a page asks for."""
    source = page.file.src_uri
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.globals = {
        "code": lambda name: excerpt(PACKAGE, name),
        "command": _command,
        "commands": _commands,
        "configuration_keys": lambda: render_sections(_configuration_sections()),
        "example": lambda name: _fenced(f"docs/examples/{name}"),
        "include": lambda file, section=None, **form: _inclusions.include(source, file, section, **form),
        "published": _published,
        "notebook": lambda file: notebook_as_markdown(ROOT / file),
        "training_estimates": lambda *datasets: training_estimates(ROOT / "configs", *datasets),
    }
    try:
        filled = environment.from_string(markdown).render()
    except Exception as error:
        raise PluginError(f"{source}: {error}") from error
    return filled


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Formulas as MathML; roles of docstrings as code; keys as links to their place in the reference."""
    html = re.sub(r":(?:class|func|meth|mod|attr):<code>~?([^<]*)</code>", r"<code>\1</code>", with_mathml(html))
    reference = get_relative_url(files.get_file_from_path(CONFIGURATION).url, page.url)

    def link(code: re.Match) -> str:
        before, name = code.groups()
        if before or name not in _key_names():
            return code[0]
        return f'<a class="key" href="{reference}#{key_anchor(name)}"><code>{name}</code></a>'

    if page.file.src_uri == CONFIGURATION:
        return html
    return re.sub(r"(<a [^>]*>)?<code>([A-Z][A-Z_.]+)</code>", link, html)


@cache
def _configuration_sections() -> list:
    return read_sections((PACKAGE / "mlickd" / "config.py").read_text(encoding="utf-8"))


@cache
def _key_names() -> frozenset[str]:
    return frozenset(key.name for s in _configuration_sections() for entry in s.entries for key in entry.keys)


def _command(module: str, name: str | None = None) -> str:
    """A heading for a script in `tools/`, and what it says with `--help`.

    Args:
        module: its name without the ending.
        name: as which `mlickd` knows it.
    """
    called = f"`mlickd {name}`, or `tools/{module}.py`" if name else f"`tools/{module}.py`"
    text = command_help(ROOT / "tools" / f"{module}.py").rstrip()
    return f"### {name or module} {{ #{name or module} }}\n\n{called}\n\n```text\n{text}\n```"


def _commands() -> str:
    """All commands that `mlickd` lists, in its groups."""
    parts = []
    for group, commands in GROUPS.items():
        parts.append(f"## {group}")
        parts.extend(_command(command.module, name) for name, command in commands.items())
    return "\n\n".join(parts)


def _published() -> str:
    """The paper's figures on COCO and NUS-WIDE."""
    columns = ["", "method", "mAP", "CF1", "OF1", "top-3 CF1", "top-3 OF1"]
    names = {"coco": "COCO", "nus_wide": "NUS-WIDE"}
    rows = [
        [names[dataset], method.replace("_", " "), *values]
        for dataset, methods in PUBLISHED.items()
        for method, values in methods.items()
    ]
    return tabulate(rows, columns, tablefmt="github", floatfmt=".1f")


def _fenced(file: str) -> str:
    """A file of Python as it is."""
    return f'```python title="{file}"\n{(ROOT / file).read_text(encoding="utf-8").rstrip()}\n```'
