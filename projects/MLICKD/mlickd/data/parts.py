"""Parts of a dataset by name: `pets_train@2of3` is the second of three, `pets_train@not2of3` the two others."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from mlickd.errors import InputError

__all__ = ["DatasetPart", "parse_part", "part_name", "whole_name"]

_PART = re.compile(r"(.+)@(not)?(0|[1-9]\d{0,8})of(0|[1-9]\d{0,8})", re.ASCII)


class DatasetPart(NamedTuple):
    """Part ``number`` of ``count`` of the dataset ``whole``, or the ``others``: the images of all other parts."""

    whole: str
    number: int
    count: int
    others: bool = False

    def indices(self, image_ids: Sequence[object]) -> list[int]:
        """Return the indices of the images in the part, ascending.

        Images are sorted by a hash of their id and dealt like cards. The part of an image depends only on the ids, not
        on a seed or an order, and the sizes of the parts differ by at most one.

        Raises:
            InputError: there are fewer images than parts.
        """
        if len(image_ids) < self.count:
            raise InputError(
                f"dataset {part_name(self)!r}: {self.whole} has {len(image_ids)} images, too few for {self.count} parts"
            )
        ranked = sorted(range(len(image_ids)), key=lambda index: _hash(image_ids[index]))
        part = set(ranked[self.number - 1 :: self.count])
        return [index for index in range(len(image_ids)) if (index in part) != self.others]


def part_name(part: DatasetPart) -> str:
    """Return the name that :func:`parse_part` reads."""
    return f"{part.whole}@{'not' if part.others else ''}{part.number}of{part.count}"


def parse_part(name: str) -> DatasetPart | None:
    """Return the part that a name stands for, or None if the name does not end with `@KofN` or `@notKofN`.

    Raises:
        InputError: there is no part of this number, or only one part.
    """
    match = _PART.fullmatch(name)
    if match is None:
        return None
    part = DatasetPart(match[1], int(match[3]), int(match[4]), others=match[2] is not None)
    if part.count < 2 or not 1 <= part.number <= part.count:
        raise InputError(f"dataset {name!r}: there is no such part; give NAME@KofN with N from 2 and K from 1 to N")
    return part


def whole_name(name: str) -> str:
    """Return the whole dataset of a part, or the name itself. Parts share the proposals of the whole."""
    while (part := parse_part(name)) is not None:
        name = part.whole
    return name


def _hash(image_id: object) -> bytes:
    return hashlib.sha256(str(image_id).encode("utf-8", "surrogatepass")).digest()
