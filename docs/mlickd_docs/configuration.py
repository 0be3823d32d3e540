"""Generation of the reference of configuration keys from the comments in `mlickd/config.py`."""

from __future__ import annotations

import re
from typing import NamedTuple

_COMMENT = re.compile(r"    # (.*)")
_KEY = re.compile(r"    cfg\.([\w.]+) = (.+)")
_BARE_KEY = re.compile(r"(?<![\w`])([A-Z][A-Z_]+(?:\.(?:[A-Z_]+|\{[A-Z_,]+\}))+)")


class Entry(NamedTuple):
    """A comment and the keys below it, with their defaults as written in the file."""

    comment: str
    keys: dict[str, str]


def read_sections(source: str) -> dict[str, list[Entry]]:
    """Return the entries of each node, such as ``KD.REGIONS``, in the order of the file.

    A comment applies to all keys up to the next comment. The comment of a node is its first entry.

    Args:
        source: code with one assignment to an attribute of ``cfg`` per line.
    """
    sections: dict[str, list[Entry]] = {}
    comment = []
    for line in source.splitlines():
        if match := _COMMENT.fullmatch(line):
            comment.append(match[1])
            continue
        if match := _KEY.fullmatch(line):
            name, default = match.groups()
            is_node = default == "CfgNode()"
            entries = sections.setdefault(name if is_node else name.rpartition(".")[0], [])
            if comment or not entries:
                entries.append(Entry(" ".join(comment), {}))
            if not is_node:
                entries[-1].keys[name] = default
        comment = []
    return sections


def render_sections(sections: dict[str, list[Entry]]) -> str:
    """Return Markdown with a heading for each node, and the default and the comment of each key."""
    parts = []
    tops = list(dict.fromkeys(name.partition(".")[0] for name in sections))
    for top in tops:
        parts.append(f"## {top} {{ #{top.lower()} }}")
        for name in (name for name in sections if name.partition(".")[0] == top):
            if name != top:
                parts.append(f"### {name} {{ #{name.lower()} }}")
            for comment, keys in sections[name]:
                text = "".join(
                    part if part.startswith("`") else _BARE_KEY.sub(r"`\1`", part)
                    for part in re.split(r"(`[^`]*`)", comment)
                )
                terms = [f"`{key}`{{ #{key.lower()} .key }} `{keys[key]}`{{ .default }}" for key in keys]
                parts.append("\n".join([*terms, f":   {text}"]) if terms else text)
    return "\n\n".join(parts)
