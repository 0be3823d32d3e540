"""Formulas in LaTeX become MathML, which browsers draw by themselves, in a font that comes along."""

from __future__ import annotations

import html
import re
from importlib.resources import files
from pathlib import Path

from latex2mathml.converter import convert

__all__ = ["MATHS_FONT", "with_mathml"]

# STIX Two Math (SIL Open Font License): what systems have instead often lacks the sizes and places of a formula.
MATHS_FONT = Path(str(files("ziamath.fonts") / "STIXTwoMath-Regular.ttf"))

# What pymdownx.arithmatex leaves of a formula in its generic mode.
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def with_mathml(page: str) -> str:
    """A page of HTML with its formulas as MathML."""
    return _FORMULA.sub(_mathml, page)


def _mathml(formula: re.Match) -> str:
    element, latex = formula.groups()
    mathml = convert(html.unescape(latex).strip(), display="block" if element == "div" else "inline")
    return f'<{element} class="formula">{mathml}</{element}>'
