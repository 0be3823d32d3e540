"""Inclusion of repository files in pages. Links to an included file become links to the page that shows it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from pymdownx.slugs import slugify

_LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")
_CALL = re.compile(r"""\{\{\s*include\(\s*"([^"]+)"(?:\s*,\s*"([^"]+)")?""")
_slug = slugify(case="lower")


class Inclusions:
    """The pages that show each file and each section of a file.

    Args:
        root: folder of the repository.
        pages: Markdown of the pages by path. ``{{ include("FILE") }}`` includes a file, and
            ``{{ include("FILE", "Heading") }}`` includes one of its sections.

    Raises:
        LookupError: a page includes a file or a section that does not exist.
    """

    def __init__(self, root: Path, pages: dict[str, str]):
        self.root = root
        self._pages = {
            ("projects/MLICKD/mlickd/config.py", ""): "configuration.md",
            ("projects/MLICKD/notebooks/walkthrough.ipynb", ""): "notebook.md",
        }
        published = (root / "projects/MLICKD/results").glob("*.json")
        self._pages.update({(f"projects/MLICKD/results/{file.name}", ""): "when.md" for file in published})
        calls = [(page, *call) for page, text in pages.items() for call in _CALL.findall(text)]
        shown = [(page, file, [slug for *_, slug in _headings(self._lines(file, part))]) for page, file, part in calls]
        # Several pages may show sections of a file. A link to the file leads to the page with the most sections. A link
        # to a section leads to the page with the fewest.
        for page, file, slugs in sorted(shown, key=lambda item: -len(item[2])):
            self._pages.setdefault((file, ""), page)
            self._pages.update({(file, slug): page for slug in slugs})

    def include(self, page: str, file: str, section: str = "", level: int = 1) -> str:
        """Return Markdown of a file or one of its sections.

        Args:
            page: path of the page that includes the file.
            file: path in the repository.
            section: heading of the section; empty includes the whole file.
            level: level of the first heading, 1 to 6; the other headings are shifted by the same amount.
        """
        lines = self._lines(file, section)
        found = list(_headings(lines))
        for number, depth, _ in found:
            lines[number] = f"{'#' * (depth - found[0][1] + level)} {lines[number].lstrip('# ')}"
        return _LINK.sub(lambda link: f"{link[1]}({self._target(page, file, link[2])})", "\n".join(lines))

    def _lines(self, file: str, section: str) -> list[str]:
        if not (self.root / file).is_file():
            raise LookupError(f"include: no file {file}")
        lines = (self.root / file).read_text(encoding="utf-8").splitlines()
        found = list(_headings(lines))
        for place, (number, level, _) in enumerate(found):
            if lines[number].lstrip("# ") == section:
                ends = [other for other, depth, _ in found[place + 1 :] if depth <= level]
                return lines[number : ends[0] if ends else None]
        if section:
            raise LookupError(f"include: {file} has no section {section!r}")
        return lines

    def _target(self, page: str, file: str, link: str) -> str:
        """Return the target of a link in an included file, relative to the page."""
        if "://" in link:
            return link
        path, _, anchor = link.partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(file), path)) if path else file
        shown = self._pages.get((target, anchor), target.removeprefix("docs/"))
        relative = posixpath.relpath(shown, posixpath.dirname(page) or ".")
        return f"{relative}#{anchor}" if anchor else relative


def _headings(lines: list[str]) -> Iterator[tuple[int, int, str]]:
    """Yield the line number, level and anchor of each heading outside code fences."""
    fenced = False
    for number, line in enumerate(lines):
        fenced ^= line.startswith("```")
        heading = re.match(r"(#{1,6}) (.+)", line)
        if heading and not fenced:
            text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading[2].strip())
            yield number, len(heading[1]), _slug(text, "-")
