"""Text that has its place elsewhere in the repository, included in pages; links go to the page that has the text."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pymdownx.slugs import slugify

__all__ = ["Inclusion", "Inclusions", "headings"]

_LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")
_CALL = re.compile(r"""\{\{\s*include\(\s*"([^"]+)"(?:\s*,\s*"([^"]+)")?""")
# Files of which a page shows all that a link to them is for.
_MADE_INTO_PAGES = {
    "projects/MLICKD/mlickd/config.py": "configuration.md",
    "projects/MLICKD/notebooks/walkthrough.ipynb": "notebook.md",
}
_slug = slugify(case="lower")


@dataclass(frozen=True)
class Inclusion:
    """A page that shows a file, or one section of it."""

    page: str
    file: str
    section: str | None


class Inclusions:
    """Which page shows what of the repository.

    Attributes:
        assets: files that included text links to and that are no page: the site has to hold them.
    """

    def __init__(self, root: Path, pages: dict[str, str]):
        """
        Args:
            root: of the repository.
            pages: Markdown of the pages that include, by their path below the folder of pages. They include with
                ``{{ include("FILE") }}`` or ``{{ include("FILE", "Heading") }}``.

        Raises:
            LookupError: a page includes a file or a section that is not there.
        """
        self.root = root
        self._inclusions = [
            Inclusion(page, file, section or None)
            for page, text in pages.items()
            for file, section in _CALL.findall(text)
        ]
        self._anchors = {inclusion: self._anchors_of(inclusion) for inclusion in self._inclusions}
        self.assets: set[str] = set()
        for inclusion in self._inclusions:
            self.include(inclusion.page, inclusion.file, inclusion.section)

    def include(
        self, page: str, file: str, section: str | None = None, level: int | None = None, subsections: bool = True
    ) -> str:
        """Markdown of a file or a section of it, with links as they are to be on the page.

        Args:
            page: where it goes.
            file: path in the repository.
            section: text of its heading; None takes all.
            level: what the first heading becomes, 1 to 6; the others follow. 0 leaves the first heading out.
            subsections: take what is below further headings, too.
        """
        lines = self._section(file, section)
        if not subsections:
            lines = lines[: next((number for number, _, _ in headings(lines) if number > 0), len(lines))]
        if level == 0:
            lines = lines[1:]
        elif level is not None:
            lines = _shifted(lines, level)
        text = "\n".join(_with_plain_fences(lines))
        return _LINK.sub(lambda link: f"{link[1]}({self._target(page, file, link[2])})", text)

    def _section(self, file: str, section: str | None) -> list[str]:
        path = self.root / file
        if not path.is_file():
            raise LookupError(f"include: no file {file}")
        lines = path.read_text(encoding="utf-8").splitlines()
        if section is None:
            return lines
        found = list(headings(lines))
        for place, (number, level, text) in enumerate(found):
            if text == section:
                ends = [other for other, depth, _ in found[place + 1 :] if depth <= level]
                return lines[number : ends[0] if ends else len(lines)]
        raise LookupError(f"include: {file} has no section {section!r}")

    def _anchors_of(self, inclusion: Inclusion) -> set[str]:
        return {_anchor(text) for _, _, text in headings(self._section(inclusion.file, inclusion.section))}

    def _target(self, page: str, file: str, link: str) -> str:
        """Where a link of an included file leads on a page of the site."""
        if "://" in link or link.startswith("mailto:"):
            return link
        path, _, anchor = link.partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(file), path)) if path else file
        shown_on = self._page_of(target, anchor)
        if shown_on is None and target.startswith("docs/"):
            shown_on = target.removeprefix("docs/")
        elif shown_on is None:
            self.assets.add(target)
            shown_on = f"repository/{target}"
        relative = posixpath.relpath(shown_on, posixpath.dirname(page) or ".")
        return f"{relative}#{anchor}" if anchor else relative

    def _page_of(self, file: str, anchor: str) -> str | None:
        """The page that shows just that heading of a file; without an anchor, the one that shows most of it."""
        if file in _MADE_INTO_PAGES:
            return _MADE_INTO_PAGES[file]
        showing = [inclusion for inclusion in self._inclusions if inclusion.file == file]
        if anchor:
            of_anchor = [inclusion for inclusion in showing if anchor in self._anchors[inclusion]]
            return min(of_anchor, key=lambda inclusion: len(self._anchors[inclusion])).page if of_anchor else None
        return max(showing, key=lambda inclusion: len(self._anchors[inclusion])).page if showing else None


def headings(lines: list[str]) -> Iterator[tuple[int, int, str]]:
    """Number, level and text of the headings of Markdown, those inside fenced code left out."""
    fence = False
    for number, line in enumerate(lines):
        if line.startswith("```"):
            fence = not fence
        heading = re.match(r"(#{1,6}) (.+)", line)
        if heading and not fence:
            yield number, len(heading[1]), heading[2].strip()


def _shifted(lines: list[str], level: int) -> list[str]:
    """The same with the first heading at a level, and the others as far below it as they were."""
    found = list(headings(lines))
    lines = list(lines)
    for number, depth, text in found:
        lines[number] = f"{'#' * max(1, min(6, depth - found[0][1] + level))} {text}"
    return lines


def _with_plain_fences(lines: list[str]) -> Iterator[str]:
    """The same with `text` as the language of fenced code that names none: trees and diagrams."""
    fence = False
    for line in lines:
        if line.startswith("```"):
            fence = not fence
            line = "```text" if fence and line == "```" else line
        yield line


def _anchor(heading: str) -> str:
    """The anchor of a heading."""
    return _slug(re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading), "-")
