"""The reference of keys against the configuration itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from detectron2.config import CfgNode, get_cfg

import mlickd.config
from mlickd.config import default_config
from mlickd_docs.configuration import read_sections, render_sections

SOURCE = Path(mlickd.config.__file__).read_text(encoding="utf-8")


def leaves(cfg: CfgNode, prefix: str = "") -> dict[str, object]:
    """All keys with their values."""
    found = {}
    for name, value in cfg.items():
        if isinstance(value, CfgNode):
            found |= leaves(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def test_every_key_of_the_project_is_there_with_its_default_and_a_comment() -> None:
    detectron2, ours = leaves(get_cfg()), leaves(default_config())
    expected = {name: value for name, value in ours.items() if name not in detectron2 or detectron2[name] != value}
    entries = [entry for section in read_sections(SOURCE) for entry in section.entries]
    found = {key.name: eval(key.default) for entry in entries for key in entry.keys}
    assert {name: value for name, value in found.items() if name in expected} == expected
    # What is set to the value that it has already is a key of ours, too, or one of Detectron2's.
    assert set(found) <= set(ours)
    assert [key.name for entry in entries for key in entry.keys if not entry.comment] == []


def test_a_comment_is_for_the_keys_directly_below_it() -> None:
    source = """
def add(cfg):
    # Of the node.
    cfg.A = CfgNode()
    cfg.A.FIRST = 1
    # Of two,
    # on two lines.
    cfg.A.SECOND = (1, 2)
    cfg.A.THIRD = "x"

    cfg.A.ALONE = None
"""
    (section,) = read_sections(source)
    comments = {tuple(key.name for key in entry.keys): entry.comment for entry in section.entries}
    assert comments == {
        ("A.FIRST",): "Of the node.",
        ("A.SECOND", "A.THIRD"): "Of two, on two lines.",
        ("A.ALONE",): "",
    }


def test_the_page_has_an_anchor_and_the_default_for_each_key() -> None:
    sections = read_sections(SOURCE)
    page = render_sections(sections)
    keys = [key for section in sections for entry in section.entries for key in entry.keys]
    for key in keys:
        assert page.count(f"`{key.name}`{{ #{key.name.lower()} .key }} `{key.default}`") == 1
    # Branches stand together, though the file comes back to one.
    tops = [line.split()[1] for line in page.splitlines() if line.startswith("## ")]
    assert len(tops) == len(set(tops)) and set(tops) == {key.name.partition(".")[0] for key in keys}


@pytest.mark.parametrize("text", ["DATASETS.TRAIN", "SOLVER.AMP.DTYPE"])
def test_keys_in_comments_become_code(text: str) -> None:
    source = f"def add(cfg):\n    # As {text} says, see `{text}`.\n    cfg.A.B = 1\n"
    assert f"As `{text}` says, see `{text}`." in render_sections(read_sections(source))
