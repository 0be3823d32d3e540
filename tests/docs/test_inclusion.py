"""Text of other files in pages, and where its links lead then."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlickd_docs.inclusion import Inclusions

README = """# Project

See [the guide](guides/guide.md), [its second part](guides/guide.md#the-second-part), [below](#a-section),
[a file](data/list.txt), [a picture](docs/picture.png) and [elsewhere](https://example.org).

## A section

Text.

```
# no heading
```

### Within

More.

## The last

End.
"""
GUIDE = "# Guide\n\n## The first part\n\nBack to [the top](../README.md).\n\n## The second part\n\nText.\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "guides").mkdir()
    (tmp_path / "README.md").write_text(README)
    (tmp_path / "guides" / "guide.md").write_text(GUIDE)
    return tmp_path


def test_links_lead_to_the_pages_that_show_what_they_name(repository: Path) -> None:
    pages = {
        "index.md": '{{ include("README.md") }}',
        "use/first.md": '{{ include("guides/guide.md", "The first part", level=1) }}',
        "use/second.md": '{{ include("guides/guide.md", "The second part") }}',
    }
    inclusions = Inclusions(repository, pages)
    index = inclusions.include("index.md", "README.md")
    assert "[its second part](use/second.md#the-second-part)" in index
    assert "[the guide](use/first.md)" in index
    assert "[below](index.md#a-section)" in index
    assert "[a file](repository/data/list.txt)" in index and inclusions.assets == {"data/list.txt"}
    assert "[a picture](picture.png)" in index and "(https://example.org)" in index
    first = inclusions.include("use/first.md", "guides/guide.md", "The first part", level=1)
    assert first.startswith("# The first part\n") and "[the top](../index.md)" in first


def test_a_section_ends_where_the_next_of_its_level_begins(repository: Path) -> None:
    inclusions = Inclusions(repository, {})
    section = inclusions.include("index.md", "README.md", "A section", level=3)
    assert section.startswith("### A section") and "#### Within" in section and "End." not in section
    assert "```text\n# no heading\n```" in section
    alone = inclusions.include("index.md", "README.md", "A section", level=0, subsections=False)
    assert alone.strip().startswith("Text.") and "Within" not in alone


@pytest.mark.parametrize("call", ['include("nowhere.md")', 'include("README.md", "No such section")'])
def test_what_is_not_there_is_an_error(repository: Path, call: str) -> None:
    with pytest.raises(LookupError, match=r"nowhere.md|No such section"):
        Inclusions(repository, {"index.md": f"{{{{ {call} }}}}"})
