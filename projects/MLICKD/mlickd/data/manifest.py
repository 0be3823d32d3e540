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
from itertools import zip_longest
from typing import Any

from mlickd.errors import InputError
from mlickd.files import write_whole_file

from .sources.dataset_files import read_text

__all__ = ["first_difference", "labels_digest", "manifest_lines", "read_manifest", "write_manifest"]


def manifest_lines(records: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> list[str]:
    """Return the lines of a manifest after the first one: the class names, and each image sorted by id."""

    def names(labels: set[int]) -> list[str]:
        return [class_names[label] for label in sorted(labels)]

    images = {}
    for record in records:
        labels = set(record["labels"])
        # As in the metrics, a class that is both is a positive.
        images[str(record["image_id"])] = names(labels), names(set(record.get("ignored_labels", ())) - labels)
    lines = [list(class_names), *([image_id, *images[image_id]] for image_id in sorted(images))]
    return [json.dumps(line) for line in lines]


def labels_digest(records: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> str:
    """Return the SHA-256 of class names, image ids and labels, in hexadecimal."""
    return _digest(manifest_lines(records, class_names))


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode("ascii")).hexdigest()


def write_manifest(lines: Sequence[str], dataset: str, path: str | os.PathLike[str]) -> str:
    """Write the manifest of a dataset, given by its :func:`manifest_lines`, and return its digest.

    Raises:
        InputError: the file cannot be written.
    """
    header = {"manifest": 1, "dataset": dataset, "num_images": len(lines) - 1, "sha256": _digest(lines)}
    write_whole_file(path, "".join(f"{line}\n" for line in [json.dumps(header), *lines]), "name another file")
    return header["sha256"]


def read_manifest(path: str | os.PathLike[str]) -> list[str]:
    """Return the lines of a manifest after the first one.

    Raises:
        InputError: the file is missing, is not a manifest, or does not have the digest that it names.
    """
    header, *lines = read_text(path, "write one with `python tools/dataset_manifest.py NAME`").splitlines() or [""]
    try:
        intact = json.loads(header)["manifest"] == 1 and json.loads(header)["sha256"] == _digest(lines)
    except (ValueError, TypeError, KeyError, RecursionError):
        intact = False
    if not intact:
        raise InputError(f"{path}: is not a manifest, or is damaged; get the file again")
    return lines


def first_difference(ours: Sequence[str], theirs: Sequence[str]) -> str | None:
    """Return the first difference of two lists of lines, as a part of a sentence; None if they are equal."""
    for number, (here, there) in enumerate(zip_longest(ours, theirs), start=2):
        if here != there:
            return f"line {number} is {here} here and {there} there"
    return None
