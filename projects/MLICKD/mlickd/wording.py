"""How messages put things that may be long."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

__all__ = ["shorten_list"]


def shorten_list(names: Collection[object], most: int = 6) -> str:
    """The first names with commas between them, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, islice(names, most))) + more
