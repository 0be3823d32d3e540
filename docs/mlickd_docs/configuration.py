"""The reference of configuration keys, from the comments of `mlickd/config.py`."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field

__all__ = ["Entry", "Key", "Section", "key_anchor", "read_sections", "render_sections"]


@dataclass(frozen=True)
class Key:
    """A key and its default as the file has it, such as ``KD.REGIONS.TOP_K`` and ``32``."""

    name: str
    default: str


@dataclass
class Entry:
    """Keys that stand one below the other behind one comment."""

    comment: str
    keys: list[Key] = field(default_factory=list)


@dataclass
class Section:
    """A node, such as ``KD.REGIONS``, and what its comment says of all of its keys."""

    name: str
    comment: str = ""
    entries: list[Entry] = field(default_factory=list)


def read_sections(source: str) -> list[Section]:
    """The keys that a configuration function adds, by node, in the order of the file.

    Args:
        source: text of Python, with assignments to attributes of ``cfg`` and a comment above each, or above the first
            of several that follow each other without an empty line.
    """
    lines = source.splitlines()
    sections: dict[str, Section] = {}
    previous_end, entry = 0, None
    for statement in _assignments(source):
        name = ast.unparse(statement.targets[0]).removeprefix("cfg.")
        comment = _comment_above(lines, statement.lineno)
        follows = previous_end == statement.lineno - 1
        previous_end = statement.end_lineno
        if ast.unparse(statement.value) == "CfgNode()":
            sections.setdefault(name, Section(name)).comment = comment
            entry = None
            continue
        node = name.rpartition(".")[0]
        section = sections.setdefault(node, Section(node))
        if comment or entry is None or not follows:
            # The first key below a node may leave it to the node's comment to say what it does.
            entry = Entry(comment or (section.comment if not section.entries else ""))
            section.entries.append(entry)
        entry.keys.append(Key(name, ast.get_source_segment(source, statement.value)))
    return [section for section in sections.values() if section.entries]


def _assignments(source: str) -> list[ast.Assign]:
    """Assignments to attributes of `cfg`, in the order of their lines."""
    found = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).startswith("cfg.")
    ]
    return sorted(found, key=lambda node: node.lineno)


def _comment_above(lines: list[str], number: int) -> str:
    """The comment that ends just above a line, as one text."""
    words = []
    for line in reversed(lines[: number - 1]):
        if not line.strip().startswith("#"):
            break
        words.insert(0, line.strip().removeprefix("#").strip())
    return " ".join(words)


def key_anchor(name: str) -> str:
    """The anchor of a key on the page of the reference."""
    return name.lower()


def render_sections(sections: list[Section]) -> str:
    """Markdown: a heading for each node, a term with its default for each key, and what the comment says of it."""
    parts = []
    top = ""
    for section in sorted(sections, key=lambda section: _order(section.name, sections)):
        if section.name.partition(".")[0] != top:
            top = section.name.partition(".")[0]
            parts.append(f"## {top} {{ #{key_anchor(top)} }}")
        if section.name != top:
            parts.append(f"### {section.name} {{ #{key_anchor(section.name)} }}")
        if section.comment and section.entries[0].comment != section.comment:
            parts.append(_markdown(section.comment))
        for entry in section.entries:
            terms = [
                f"`{key.name}`{{ #{key_anchor(key.name)} .key }} `{key.default}`{{ .default }}" for key in entry.keys
            ]
            parts.append("\n".join(terms) + f"\n:   {_markdown(entry.comment)}")
    return "\n\n".join(parts)


def _order(name: str, sections: list[Section]) -> int:
    """Nodes of one branch stand together, in the place of the first of them."""
    branch = name.partition(".")[0]
    names = [section.name for section in sections]
    first = next(i for i, other in enumerate(names) if other.partition(".")[0] == branch)
    return first * len(names) + names.index(name)


def _markdown(comment: str) -> str:
    """A comment as Markdown: keys, paths and calls that stand bare in it become code."""
    spans = re.split(r"(`[^`]*`)", comment)
    bare = re.compile(r"(?<![\w`])([A-Z][A-Z_]+(?:\.(?:[A-Z_]+|\{[A-Z_,]+\}))+)")
    return "".join(span if span.startswith("`") else bare.sub(r"`\1`", span) for span in spans)
