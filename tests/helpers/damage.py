"""Hypothesis strategies for damaged files."""

import copy
import json
import math
from collections.abc import Iterator

from hypothesis import strategies as st

# Wrong sizes, counts and offsets.
_NUMBERS = [0, 1, 255, 2**16, 2**31 - 1, 2**32 - 1, 10**12, 2**63 - 1]
_VALUES = [None, True, -1, 0, 7, 10**12, 2**70, 0.5, math.nan, math.inf]
_VALUES += ["", "x", "\0", "../../x", [], [[]], {}, {"": 1}]


@st.composite
def _edit(draw: st.DrawFn) -> tuple[str, float, bytes]:
    kind = draw(st.sampled_from(["replace", "insert", "cut", "end"]))
    lengths = [number.to_bytes(8, order) for number in _NUMBERS for order in ("little", "big")]
    new = draw(st.binary(min_size=1, max_size=8) | st.sampled_from(lengths))
    return kind, draw(st.floats(0, 1, width=16)), new


def damaged_bytes(content: bytes) -> st.SearchStrategy[bytes]:
    """Return a strategy for the content with one to four edits: replaced, inserted or removed bytes, or a cut."""

    def apply(edits: list[tuple[str, float, bytes]]) -> bytes:
        changed = bytearray(content)
        for kind, place, new in edits:
            # Half of the edits are near the start, where headers are.
            at = int((2 * place - 1 if place > 0.5 else place / 4) * len(changed))
            if kind == "end":
                del changed[at:]
            else:
                changed[at : at + (0 if kind == "insert" else len(new))] = b"" if kind == "cut" else new
        return bytes(changed)

    return st.lists(_edit(), min_size=1, max_size=4).map(apply)


@st.composite
def _change_of_json(draw: st.DrawFn, content: object) -> object:
    changed = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(changed))
        if not places:
            return draw(st.sampled_from(_VALUES))
        node, key = draw(st.sampled_from(places))
        if draw(st.booleans()):
            node[key] = copy.deepcopy(draw(st.sampled_from(_VALUES)))
        elif draw(st.booleans()):
            del node[key]
        elif isinstance(node, dict):
            node[draw(st.sampled_from(["", "x", "\0", "../x"]))] = node.pop(key)
        else:
            node.insert(key, copy.deepcopy(node[key]))
    return changed


def damaged_json(content: bytes) -> st.SearchStrategy[bytes]:
    """Return a strategy for JSON with missing, repeated or replaced parts, or with damaged bytes."""
    parsed = _change_of_json(json.loads(content))
    deep = st.just(b"[" * 20_000)
    return parsed.map(lambda value: json.dumps(value).encode()) | damaged_bytes(content) | deep


def _places(value: object) -> Iterator[tuple[dict | list, object]]:
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])
