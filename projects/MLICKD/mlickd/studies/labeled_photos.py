"""Whether runs learn from the same labels of the same photos, whatever datasets, or parts of one, these come from."""

from __future__ import annotations

from collections.abc import Sequence

from mlickd.data.catalog import class_names, dataset_records

__all__ = ["same_labeled_photos"]


def same_labeled_photos(names: Sequence[str], others: Sequence[str]) -> bool:
    """
    Args:
        names, others: of datasets.

    Returns:
        Whether both lists have the same image files, each as often, with the same labels by name.

    Raises:
        InputError: there is no such dataset. Equal lists are not looked into.
    """
    return list(names) == list(others) or _labeled_photos(names) == _labeled_photos(others)


def _labeled_photos(names: Sequence[str]) -> list[tuple[str, list[str]]]:
    photos = []
    for name in names:
        classes = class_names(name)
        for record in dataset_records(name, boxes=False):
            photos.append((record["file_name"], sorted(classes[label] for label in record["labels"])))
    return sorted(photos)
