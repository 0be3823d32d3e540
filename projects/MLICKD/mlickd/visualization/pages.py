"""Pages that open in a browser, from disk and without a network."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

__all__ = ["page_template"]


def page_template(name: str) -> Template:
    """A file of ``templates``; whatever is put into it is escaped, and a name that is not given is an error."""
    environment = Environment(
        loader=PackageLoader("mlickd.visualization"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
