"""Manifests: which images with which labels a number is on, so that two people can compare.

A manifest is text. The first line describes it; then come the class names, and an image a line, sorted by id:

    {"manifest": 1, "dataset": "nus_wide_test_multilabel", "num_images": 107859, "sha256": "..."}
    ["airport", "animal", ...]
    ["actor/0001_2124494179.jpg", ["person"], []]

An image's line has its id, its labels and the labels that are ignored. The digest is that of all lines but the first,
as `tail -n +2 FILE | sha256sum` computes it; where the images lie is not in it, nor are their pixels.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlickd.errors import InputError
from mlickd.files import write_whole_file

from .text_files import read_text

_VERSION = 1


@dataclass(frozen=True)
class Manifest:
    """The images of a dataset and their labels.

    Attributes:
        dataset: its name.
        class_names: names of the C classes, in the order of their indices.
        images: image id to (labels, ignored labels), names in the order of the classes; sorted by id.
    """

    dataset: str
    class_names: list[str]
    images: dict[str, tuple[list[str], list[str]]]

    def lines(self) -> list[str]:
        """The lines that the digest is of."""
        lines = [self.class_names, *([image_id, *labels] for image_id, labels in self.images.items())]
        return [json.dumps(line) for line in lines]

    def digest(self) -> str:
        """SHA-256 of the class names, image ids and labels, in hexadecimal."""
        return hashlib.sha256(_as_bytes(self.lines())).hexdigest()


def make_manifest(dataset: str, records: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> Manifest:
    """The manifest of a dataset, from what `dataset_records` and `class_names` say of it."""

    def names(labels: Sequence[int]) -> list[str]:
        return [class_names[label] for label in sorted(labels)]

    images = {
        # As in the metrics, a class that is both is a positive.
        str(record["image_id"]): (
            names(record["labels"]),
            names(set(record.get("ignored_labels", ())) - set(record["labels"])),
        )
        for record in records
    }
    return Manifest(dataset, list(class_names), dict(sorted(images.items())))


def write_manifest(manifest: Manifest, path: str | os.PathLike[str]) -> None:
    """Write a manifest.

    Raises:
        InputError: the file cannot be written.
    """
    header = {
        "manifest": _VERSION,
        "dataset": manifest.dataset,
        "num_images": len(manifest.images),
        "sha256": manifest.digest(),
    }
    write_whole_file(path, _as_bytes([json.dumps(header), *manifest.lines()]), "name another file")


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read a manifest.

    Raises:
        InputError: the file is missing, is not a manifest, was cut short, or does not have the digest that it names.
    """
    lines = read_text(path, "write one with `python tools/dataset_manifest.py NAME`").rstrip("\n").split("\n")
    contents = []
    for number, line in enumerate(lines, start=1):
        try:
            contents.append(json.loads(line))
        except (ValueError, RecursionError):
            raise InputError(f"{path}: line {number}: not a line of a manifest; get the file again") from None
    header = contents[0]
    if not isinstance(header, dict) or header.get("manifest") != _VERSION:
        raise InputError(f"{path}: line 1: not the first line of a manifest of version {_VERSION}; make it again")
    try:
        images = {image_id: (list(labels), list(ignored)) for image_id, labels, ignored in contents[2:]}
        manifest = Manifest(str(header["dataset"]), list(contents[1]), images)
    except (TypeError, ValueError, IndexError, KeyError):
        raise InputError(f"{path}: is not a manifest, or was cut short; get the file again") from None
    if len(images) != header.get("num_images") or manifest.digest() != header.get("sha256"):
        raise InputError(f"{path}: its lines do not have the digest that its first line names; get the file again")
    return manifest


def first_difference(ours: Manifest, theirs: Manifest) -> str | None:
    """What differs first, in one line: in the classes, then in the images by id; None where nothing does.

    The names of the datasets may differ.
    """
    if ours.class_names != theirs.class_names:
        number = next(
            (i for i, (a, b) in enumerate(zip(ours.class_names, theirs.class_names, strict=False)) if a != b),
            min(len(ours.class_names), len(theirs.class_names)),
        )
        here, there = (names[number : number + 1] or ["none"] for names in (ours.class_names, theirs.class_names))
        return f"class {number} is {here[0]!r} here and {there[0]!r} there"
    for image_id in sorted(ours.images.keys() | theirs.images.keys()):
        if image_id not in theirs.images:
            return f"image {image_id!r} is here and not there{_counts(ours, theirs)}"
        if image_id not in ours.images:
            return f"image {image_id!r} is there and not here{_counts(ours, theirs)}"
        for kind, here, there in zip(
            ("labels", "ignored labels"), ours.images[image_id], theirs.images[image_id], strict=True
        ):
            if here != there:
                return f"image {image_id!r} has the {kind} {here} here and {there} there"
    return None


def _counts(ours: Manifest, theirs: Manifest) -> str:
    here, there = (set(manifest.images) for manifest in (ours, theirs))
    return (
        f"; {len(here)} images here, {len(there)} there: {len(here - there)} are here alone and "
        f"{len(there - here)} there alone"
    )


def _as_bytes(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("ascii")
