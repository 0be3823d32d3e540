"""Formulas of the pages as MathML."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from mlickd_docs.maths import MATHS_FONT, with_mathml

METHOD = Path(__file__).parents[2] / "docs" / "method.md"
MATHML = "{http://www.w3.org/1998/Math/MathML}"


def test_inline_and_display_formulas_become_mathml() -> None:
    page = (
        r'<p>a <span class="arithmatex">\(x_1 &lt; 2\)</span> b</p>'
        r'<div class="arithmatex">\[ \frac{1}{2} \]</div><code>\(y\)</code>'
    )
    made = with_mathml(page)
    inline, display = re.findall(r"<math.*?</math>", made)
    assert ElementTree.fromstring(display).get("display") == "block"
    tree = ElementTree.fromstring(inline)
    assert tree.get("display") == "inline"
    assert [element.text for element in tree.iter(f"{MATHML}mi")] == ["x"]
    assert [element.text for element in tree.iter(f"{MATHML}mo")] == ["<"]
    assert made.endswith(r"<code>\(y\)</code>"), "what is no formula stays"


def test_every_formula_of_the_method_is_understood() -> None:
    formulas = re.findall(r"\$\$(.*?)\$\$", METHOD.read_text(), re.DOTALL)
    assert len(formulas) > 8
    for formula in formulas:
        made = with_mathml(rf'<div class="arithmatex">\[{formula}\]</div>')
        text = "".join(ElementTree.fromstring(re.search(r"<math.*</math>", made, re.DOTALL)[0]).itertext())
        assert "\\" not in text, "a command that is not known is left as text"


def test_the_font_comes_with_a_package() -> None:
    assert MATHS_FONT.read_bytes()[:4] in (b"OTTO", b"\0\1\0\0")
