"""Copies of an image, within a dataset and between the splits of one."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from .findings import Finding, counted
from .images import ImageFacts

__all__ = ["crowded", "duplicate_findings", "same_files", "similar_pairs"]

# Two images look the same if their hashes differ in at most 3 of 64 bits, and the pixels of their thumbnails by no more
# than this on average and at most (of 255). Copies in other formats, sizes and qualities stay below it.
_BITS, _MEAN, _MOST = 3, 3.0, 30
_BANDS = _BITS + 1  # of the hash: with 3 bits changed, one of 4 bands is untouched
# Images that share a band are all compared where they are no more than this, else each with so many that follow it.
_CROWD, _NEIGHBORS = 1024, 16


def same_files(images: Sequence[ImageFacts]) -> list[list[int]]:
    """Indices of the images whose files are equal byte by byte, in groups of two and more."""
    groups = defaultdict(list)
    for index, image in enumerate(images):
        if image.problem is None:
            groups[image.digest].append(index)
    return [group for group in groups.values() if len(group) > 1]


def similar_pairs(images: Sequence[ImageFacts]) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of images that look the same but are other files: saved again, or at another size.

    In a crowd (see `crowded`) each image is compared with the nearest few alone, for all pairs would be too many.
    """
    indices = _distinct(images)
    hashes = _hashes(images, indices)
    pairs = {
        (int(indices[i]), int(indices[j]))
        for band in range(_BANDS)
        for i, j in _near_in_band(hashes, band)
        if _look_alike(images[indices[i]].thumbnail, images[indices[j]].thumbnail)
    }
    return sorted(pairs)


def crowded(images: Sequence[ImageFacts]) -> list[int]:
    """Indices of the images that share a quarter of their hash with more than a thousand others: blank scans, say."""
    indices = _distinct(images)
    hashes = _hashes(images, indices)
    found = {
        int(i) for band in range(_BANDS) for bucket in _buckets(hashes, band) if len(bucket) > _CROWD for i in bucket
    }
    return sorted(indices[list(found)].tolist())


def _distinct(images: Sequence[ImageFacts]) -> np.ndarray:
    """Indices of the readable images, of equal files the first alone."""
    first_of_digest: dict[bytes, int] = {}
    for index, image in enumerate(images):
        if image.problem is None:
            first_of_digest.setdefault(image.digest, index)
    return np.array(sorted(first_of_digest.values()), dtype=np.int64)


def _hashes(images: Sequence[ImageFacts], indices: np.ndarray) -> np.ndarray:
    return np.array([images[index].hash for index in indices], dtype=np.uint64)


def _buckets(hashes: np.ndarray, band: int) -> list[np.ndarray]:
    """Groups that agree in one band of 16 bits, each sorted by the whole hash."""
    keys = (hashes >> np.uint64(16 * band)).astype(np.uint16)
    order = np.lexsort((hashes, keys))
    return np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)


def _near_in_band(hashes: np.ndarray, band: int) -> Iterator[tuple[int, int]]:
    """Pairs that agree in one band of 16 bits and differ in no more than `_BITS` of all."""
    for bucket in _buckets(hashes, band):
        reach = len(bucket) if len(bucket) <= _CROWD else _NEIGHBORS
        for place, i in enumerate(bucket[:-1]):
            others = bucket[place + 1 : place + 1 + reach]
            differing = np.unpackbits((hashes[others] ^ hashes[i]).view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1)
            for j in others[differing <= _BITS]:
                yield int(min(i, j)), int(max(i, j))


def _look_alike(first: np.ndarray, second: np.ndarray) -> bool:
    difference = np.abs(first.astype(np.int16) - second)
    return bool(difference.mean() <= _MEAN and difference.max() <= _MOST)


def duplicate_findings(splits: dict[str, Sequence[dict]], images: dict[str, Sequence[ImageFacts]]) -> list[Finding]:
    """What is in a dataset twice, or in two of the splits.

    Args:
        splits: the records of each dataset by its name.
        images: what was seen of them.
    """
    owners = [(name, record) for name, records in splits.items() for record in records]
    seen = [image for name in splits for image in images[name]]
    same = {pair for group in same_files(seen) for pair in _with_first_of_each_split(group, owners)}
    found: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    other_labels: dict[str, int] = defaultdict(int)
    for kind, pairs in (("same", sorted(same)), ("similar", similar_pairs(seen))):
        for i, j in pairs:
            (name, record), (other_name, other) = owners[i], owners[j]
            found[kind, name, other_name].append(f"{_short(record)} = {_short(other)}")
            other_labels[name] += kind == "same" and name == other_name and record["labels"] != other["labels"]
    findings = []
    for (kind, name, other_name), examples in found.items():
        count = counted(len(examples), "pair", "pairs")
        if name != other_name:
            what = "of equal files" if kind == "same" else "of images that look the same"
            severity = "error" if kind == "same" else "warning"
            message = f"{count} {what} in {name} and in {other_name}: what is trained on must not be tested on"
        else:
            what = "of equal files" if kind == "same" else "of images that look the same"
            severity = "warning"
            message = f"{count} {what}"
            if kind == "same" and other_labels[name]:
                message += f", {other_labels[name]} of them with different labels"
        findings.append(Finding(severity, name, message, examples))
    by_split = Counter(owners[index][0] for index in crowded(seen))
    for name, count in by_split.items():
        message = (
            f"{count} images are much like more than {_CROWD} others (blank pages?), so each was compared with the "
            f"{_NEIGHBORS} next by hash alone: copies of them that were saved again may be missed"
        )
        findings.append(Finding("note", name, message))
    return [*findings, *_id_findings(splits)]


def _with_first_of_each_split(group: Sequence[int], owners: Sequence[tuple[str, dict]]) -> Iterator[tuple[int, int]]:
    """Pairs of each image of a group with the first one of each split: all pairs of a large group would be too many."""
    first: dict[str, int] = {}
    for index in group:
        for earlier in first.values():
            yield earlier, index
        first.setdefault(owners[index][0], index)


def _id_findings(splits: dict[str, Sequence[dict]]) -> list[Finding]:
    """Files that two splits list, and image ids that stand for other files there."""
    findings = []
    places = {
        name: {str(record["image_id"]): os.path.realpath(record["file_name"]) for record in records}
        for name, records in splits.items()
    }
    for name, other in combinations(places, 2):
        files = sorted(set(places[name].values()) & set(places[other].values()))
        if files:
            message = counted(len(files), "image file is", "image files are")
            message += f" listed in {other}, too: list each in one of them"
            findings.append(Finding("error", name, message, files))
        ids = [i for i in places[name].keys() & places[other].keys() if places[name][i] != places[other][i]]
        if ids:
            message = counted(len(ids), "image id stands for another image", "image ids stand for other images")
            message += f" in {other}: never merge their files by id"
            findings.append(Finding("note", name, message, sorted(ids)))
    return findings


def _short(record: dict) -> str:
    return os.path.basename(record["file_name"])
