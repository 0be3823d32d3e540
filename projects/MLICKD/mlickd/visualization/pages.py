"""Pages that open in a browser, from disk and without a network."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from mlickd.errors import InputError

__all__ = ["Inline", "inline_file", "page_template", "write_page"]


@dataclass(frozen=True)
class Inline:
    """A style sheet or a script that goes into a page.

    Attributes:
        text: as it is, in no need of escaping.
        source: for the page's Content-Security-Policy, which then lets the browser use this text and no other.
    """

    text: Markup
    source: str


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mlickd.visualization"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment


def page_template(name: str) -> Template:
    """A file of ``templates``; whatever is put into it is escaped, and a name that is not given is an error.

    What goes through ``tojson`` may stand in a script, and keeps its order.
    """
    return _environment().get_template(name)


def write_page(path: Path, page: str) -> None:
    """
    Raises:
        InputError: the page cannot be written.
    """
    try:
        path.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); give another folder") from error


def inline_file(name: str) -> Inline:
    """A style sheet or script of ``templates``, which is no template itself."""
    text, _, _ = _environment().loader.get_source(_environment(), name)
    text = text.replace("\r\n", "\n")  # as a browser reads it
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return Inline(Markup(text), f"'sha256-{base64.b64encode(digest).decode()}'")
