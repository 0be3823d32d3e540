"""Manifests list the images and labels of a dataset, so that two people can check that their datasets are equal.

A manifest is text: a header, the class names, and a line for each image, sorted by id:

    {"manifest": 1, "dataset": "nus_wide_test_multilabel", "num_images": 107859, "sha256": "..."}
    ["airport", "animal", ...]
    ["actor/0001_2124494179.jpg", ["person"], []]

The line of an image has its id, its labels, and its ignored labels. The digest covers all lines except the header:
`tail -n +2 FILE | sha256sum` prints it. It does not depend on the folder of the images or on their pixels.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from mlickd.errors import InputError
from mlickd.files import write_whole_file

from .sources.dataset_files import read_text


def manifest_lines(records: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> list[str]:
    """Return the lines of a manifest without the header: the class names, and the images sorted by id."""
    images = []
    for record in records:
        labels = set(record["labels"])
        # As in the metrics, a class in both lists is positive.
        both = labels, set(record.get("ignored_labels", ())) - labels
        names = ([class_names[label] for label in sorted(indices)] for indices in both)
        images.append([str(record["image_id"]), *names])
    return [json.dumps(line) for line in (list(class_names), *sorted(images))]


def labels_digest(records: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> str:
    """Return the SHA-256 of class names, image ids and labels, in hexadecimal."""
    return _digest(manifest_lines(records, class_names))


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def write_manifest(lines: Sequence[str], dataset: str, path: str | os.PathLike[str]) -> str:
    """Write a manifest with the given :func:`manifest_lines`, and return its digest.

    Raises:
        InputError: the file cannot be written.
    """
    header = {"manifest": 1, "dataset": dataset, "num_images": len(lines) - 1, "sha256": _digest(lines)}
    write_whole_file(path, "".join(f"{line}\n" for line in [json.dumps(header), *lines]), "name another file")
    return header["sha256"]


def read_manifest(path: str | os.PathLike[str]) -> list[str]:
    """Return the lines of a manifest without the header.

    Raises:
        InputError: the file is missing, is not a manifest, or does not match its digest.
    """
    header, *lines = read_text(path, "write one with `mlickd dataset-manifest NAME`").splitlines() or [""]
    if not header.startswith('{"manifest": 1, ') or f'"sha256": "{_digest(lines)}"' not in header:
        raise InputError(f"{path}: is not a manifest, or is corrupt; get the file again")
    return lines


def first_difference(ours: Sequence[str], theirs: Sequence[str]) -> str | None:
    """Return a description of the first difference between two lists of lines; None if they are equal."""
    for number, (here, there) in enumerate(zip_longest(ours, theirs), start=2):
        if here != there:
            return f"line {number} is {here} here and {there} there"
    return None
