"""Manifests: the images and labels that a number is computed on, so that two people can compare.

A manifest is text. The first line describes it. The class names follow, and then one line for each image, sorted by id:

    {"manifest": 1, "dataset": "nus_wide_test_multilabel", "num_images": 107859, "sha256": "..."}
    ["airport", "animal", ...]
    ["actor/0001_2124494179.jpg", ["person"], []]

The line of an image has its id, its labels, and its ignored labels. The digest is that of all lines but the first, as
`tail -n +2 FILE | sha256sum` computes it. It depends neither on where the images are nor on their pixels.
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

from .sources.files import read_text

__all__ = ["Manifest", "first_difference", "make_manifest", "read_manifest", "write_manifest"]


@dataclass(frozen=True)
class Manifest:
    """The images of a dataset and their labels.

    Attributes:
        dataset: name of the dataset.
        class_names: names of the C classes, in the order of their indices.
        images: {image id: (labels, ignored labels)}, sorted by id; names in the order of the classes.
    """

    dataset: str
    class_names: list[str]
    images: dict[str, tuple[list[str], list[str]]]

    def body(self) -> str:
        """Return the lines that the digest covers."""
        lines = [self.class_names, *([image_id, *labels] for image_id, labels in self.images.items())]
        return "".join(f"{json.dumps(line)}\n" for line in lines)

    def digest(self) -> str:
        """Return the SHA-256 of class names, image ids and labels, in hexadecimal."""
        return hashlib.sha256(self.body().encode("ascii")).hexdigest()


def make_manifest(dataset: str, records: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> Manifest:
    """Return the manifest of a dataset with these records and class names."""

    def names(labels: set[int]) -> list[str]:
        return [class_names[label] for label in sorted(labels)]

    images = {}
    for record in records:
        labels = set(record["labels"])
        # As in the metrics, a class that is both is a positive.
        images[str(record["image_id"])] = names(labels), names(set(record.get("ignored_labels", ())) - labels)
    return Manifest(dataset, list(class_names), dict(sorted(images.items())))


def write_manifest(manifest: Manifest, path: str | os.PathLike[str]) -> None:
    """Write a manifest.

    Raises:
        InputError: the file cannot be written.
    """
    header = {
        "manifest": 1,
        "dataset": manifest.dataset,
        "num_images": len(manifest.images),
        "sha256": manifest.digest(),
    }
    write_whole_file(path, f"{json.dumps(header)}\n{manifest.body()}", "name another file")


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read a manifest.

    Raises:
        InputError: the file is missing, is not a manifest, or does not have the digest that it names.
    """
    text = read_text(path, "write one with `python tools/dataset_manifest.py NAME`")
    try:
        header, class_names, *images = map(json.loads, text.splitlines())
        images = {image_id: (list(labels), list(ignored)) for image_id, labels, ignored in images}
        manifest = Manifest(str(header["dataset"]), list(class_names), images)
        intact = header["manifest"] == 1 and header["sha256"] == manifest.digest()
    except (ValueError, TypeError, KeyError, RecursionError):
        intact = False
    if not intact:
        raise InputError(f"{path}: is not a manifest, or is damaged; get the file again")
    return manifest


def first_difference(ours: Manifest, theirs: Manifest) -> str | None:
    """Return the first difference, in the classes or else in the images by id, as a part of a sentence; None if equal.

    The names of the datasets may differ.
    """
    if ours.class_names != theirs.class_names:
        pairs = zip([*ours.class_names, None], [*theirs.class_names, None], strict=False)
        here, there = next((here, there) for here, there in pairs if here != there)
        return f"class {here!r} here is {there!r} there"
    for image_id in sorted(ours.images.keys() | theirs.images.keys()):
        here, there = (manifest.images.get(image_id) for manifest in (ours, theirs))
        if here is None or there is None:
            place = "here and not there" if there is None else "there and not here"
            return f"image {image_id!r} is {place}; {len(ours.images)} images here, {len(theirs.images)} there"
        if here != there:
            ignored = f" (ignored: {here[1]} here and {there[1]} there)" if here[1] != there[1] else ""
            return f"image {image_id!r} has the labels {here[0]} here and {there[0]} there{ignored}"
    return None
