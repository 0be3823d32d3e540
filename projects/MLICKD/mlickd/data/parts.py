"""Parts of a dataset by name: `pets_train@2of3` is the second of three, `pets_train@not2of3` the two others."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mlickd.errors import InputError

__all__ = ["Part", "parse_part", "part_name", "whole_name"]

_PART = re.compile(r"(.+)@(not)?(0|[1-9]\d{0,8})of(0|[1-9]\d{0,8})", re.ASCII)


@dataclass(frozen=True)
class Part:
    """Which images of a dataset a name stands for.

    Attributes:
        whole: name of the dataset; it may be a part itself.
        number: of the part, from 1.
        count: of all parts, 2 or more.
        others: the images of all parts but this one.
    """

    whole: str
    number: int
    count: int
    others: bool = False

    def indices(self, image_ids: Sequence[object]) -> list[int]:
        """Which of the images are in the part, in their order.

        Images are dealt like cards after they are sorted by a hash of their id: which part an image is in hangs on the
        ids alone, on no seed and no order, and the parts are equal to one image.

        Raises:
            InputError: there are fewer images than parts.
        """
        if len(image_ids) < self.count:
            raise InputError(
                f"dataset {part_name(self)!r}: {self.whole} has {len(image_ids)} images, too few for {self.count} "
                "parts; take fewer"
            )
        ranked = sorted(range(len(image_ids)), key=lambda index: _hash(image_ids[index]))
        part = set(ranked[self.number - 1 :: self.count])
        return [index for index in range(len(image_ids)) if (index in part) != self.others]


def part_name(part: Part) -> str:
    """The name that :func:`parse_part` reads."""
    return f"{part.whole}@{'not' if part.others else ''}{part.number}of{part.count}"


def parse_part(name: str) -> Part | None:
    """The part that a name stands for; None for a name without `@KofN` or `@notKofN` at its end.

    Raises:
        InputError: there is no part of this number, or only one part.
    """
    match = _PART.fullmatch(name)
    if match is None:
        return None
    part = Part(match[1], int(match[3]), int(match[4]), others=match[2] is not None)
    if part.count < 2:
        raise InputError(f"dataset {name!r}: {part.count} parts; give 2 or more, as in {part.whole}@1of2")
    if not 1 <= part.number <= part.count:
        raise InputError(
            f"dataset {name!r}: there is no part {part.number} of {part.count}; give one from 1 to {part.count}"
        )
    return part


def whole_name(name: str) -> str:
    """The dataset that a part is of, or the name itself. Proposals are those of whole datasets.

    Raises:
        InputError: as :func:`parse_part`.
    """
    while (part := parse_part(name)) is not None:
        name = part.whole
    return name


def _hash(image_id: object) -> bytes:
    return hashlib.sha256(str(image_id).encode("utf-8", "surrogatepass")).digest()
