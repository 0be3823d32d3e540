"""Parts of a dataset by name: `pets_train@2of3` is the second of three parts, `pets_train@not2of3` the other two."""

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from mlickd.errors import InputError

_PART = re.compile(r"(.+)@(not)?(0|[1-9]\d{0,8})of(0|[1-9]\d{0,8})", re.ASCII)
_SEED = re.compile(r"\{seed\}of([1-9]\d{0,8})", re.ASCII)


class DatasetPart(NamedTuple):
    """Part ``number`` of ``count`` parts of the dataset ``whole``; with ``others``, the images of all other parts."""

    whole: str
    number: int
    count: int
    others: bool = False

    def __str__(self) -> str:
        """Return the name that :func:`parse_part` reads."""
        return f"{self.whole}@{'not' if self.others else ''}{self.number}of{self.count}"

    def indices(self, image_ids: Sequence[object]) -> list[int]:
        """Return the ascending indices of the images in the part.

        Images are sorted by a hash of their ids and assigned to the parts in turn. The parts depend only on the ids,
        and their sizes differ by at most one.

        Raises:
            InputError: the dataset has fewer images than parts.
        """
        if len(image_ids) < self.count:
            raise InputError(f"dataset '{self}': {self.whole} has only {len(image_ids)} images; give fewer parts")
        hashes = [hashlib.sha256(str(image_id).encode("utf-8", "surrogatepass")).digest() for image_id in image_ids]
        ranked = sorted(range(len(hashes)), key=hashes.__getitem__)
        part = set(ranked[self.number - 1 :: self.count])
        return [index for index in range(len(hashes)) if (index in part) != self.others]


def parse_part(name: str) -> DatasetPart | None:
    """Return the part with a name, or None if the name does not end with `@KofN` or `@notKofN`.

    Raises:
        InputError: N is below 2, or K is not a number from 1 to N.
    """
    match = _PART.fullmatch(name)
    if match is None:
        return None
    part = DatasetPart(match[1], int(match[3]), int(match[4]), others=match[2] is not None)
    if part.count < 2 or not 1 <= part.number <= part.count:
        raise InputError(f"dataset {name!r}: no such part; give NAME@KofN with N of at least 2 and K from 1 to N")
    return part


def part_for_seed(name: str, seed: int) -> str:
    """Replace `{seed}` in a name by the number of a part. With three parts, the seeds 1, 2, 3, 4 get 1, 2, 3, 1."""
    return _SEED.sub(lambda match: f"{(seed - 1) % int(match[1]) + 1}of{match[1]}", name)


def whole_name(name: str) -> str:
    """Return the name of the dataset that a part belongs to, or the name itself if it is not a part."""
    while (part := parse_part(name)) is not None:
        name = part.whole
    return name
