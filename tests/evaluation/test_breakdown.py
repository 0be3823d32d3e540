"""Parts of a dataset, by hand and against scikit-learn's average precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from mlickd.errors import InputError
from mlickd.evaluation.breakdown import (
    OBJECT_SIZES,
    by_class_frequency,
    by_label_count,
    by_object_size,
    class_frequencies,
    frequency_groups,
    largest_objects,
    size_targets,
)

SMALL, MEDIUM, LARGE = OBJECT_SIZES


def box(class_index: int, width: float, height: float, **marks: int) -> dict:
    return {"bbox": [5, 5, 5 + width, 5 + height], "category_id": class_index, **marks}


def test_the_largest_object_of_a_class_counts() -> None:
    records = [
        {"height": 100, "width": 200, "image_id": 1, "annotations": [box(0, 10, 10), box(0, 40, 50), box(0, 1, 1)]},
        {"height": 10, "width": 10, "image_id": 2, "annotations": [box(1, 5, 5, iscrowd=1), box(0, 5, 5, difficult=1)]},
        {"image_id": 3},
    ]
    np.testing.assert_array_equal(largest_objects(records, 2), [[0.1, np.nan], [np.nan, np.nan], [np.nan, np.nan]])


def test_boxes_in_an_image_of_unknown_size_are_refused() -> None:
    with pytest.raises(InputError, match="image a: has boxes but no height and width"):
        largest_objects([{"image_id": "a", "annotations": [box(0, 1, 1)]}], 1)


def test_sizes_by_hand() -> None:
    # One class. Ranking: large, negative, small, negative, medium, a positive without a box.
    scores = np.array([[0.9], [0.8], [0.7], [0.6], [0.5], [0.4]])
    targets = np.array([[1], [0], [1], [0], [1], [1]])
    largest = np.array([[0.1], [np.nan], [0.0099], [np.nan], [0.01], [np.nan]])
    groups = by_object_size(scores, targets, largest)
    assert [groups[name]["mAP"] for name in (SMALL, MEDIUM, LARGE)] == pytest.approx([1 / 2, 1 / 3, 1])
    assert all(group["positives"] == group["classes"] == 1 for group in groups.values())
    assert size_targets(targets, largest, 0.01, 0.1).ravel().tolist() == [-1, 0, -1, 0, 1, -1]


def test_label_counts_by_hand() -> None:
    targets = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0]])
    scores = np.array([[0.9, 0.8, 0.1], [0.6, 0.7, 0.1], [0.9, 0.1, 0.2], [0.1, 0.2, 0.3], [0.9, 0.9, 0.9]])
    groups = by_label_count(scores, targets)
    one, two, three = groups.values()
    # Class 0: 0.9 is first. Class 1: 0.7 is behind 0.8. Predicted: 4, of which 2 are right.
    assert one == {"mAP": 0.75, "OR": 1, "OF1": pytest.approx(2 / 3), "images": 2, "positives": 2, "classes": 2}
    assert two == {"mAP": 1, "OR": 0.5, "OF1": pytest.approx(2 / 3), "images": 1, "positives": 2, "classes": 2}
    assert three == {"mAP": 1, "OR": 0, "OF1": 0, "images": 1, "positives": 3, "classes": 3}


def test_a_group_without_an_image_has_no_value() -> None:
    group = by_label_count(np.array([[0.5]]), np.array([[1]]))["3 labels and more"]
    assert group["images"] == group["classes"] == 0 and math.isnan(group["mAP"]) and math.isnan(group["OF1"])


def test_thirds_of_the_classes() -> None:
    frequencies = class_frequencies([{"labels": [0, 3]}, {"labels": [3, 3]}, {"labels": [1]}, {"labels": []}], 5)
    assert frequencies.tolist() == [1, 1, 0, 2, 0]
    assert frequency_groups(frequencies) == {"rare": [2, 4], "medium": [0, 1], "frequent": [3]}
    assert frequency_groups(np.array([4, 2])) == {"rare": [1], "medium": [0], "frequent": []}


@given(st.integers(0, 2**32), st.integers(2, 30), st.integers(1, 7))
def test_every_group_against_scikit_learn(seed: int, images: int, classes: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 6, (images, classes)) / 5
    targets = generator.choice([-1, 0, 1], (images, classes), p=[0.1, 0.5, 0.4])
    largest = np.where(targets == 1, 10 ** generator.uniform(-3, 0, targets.shape), np.nan)
    largest[generator.random(targets.shape) < 0.2] = np.nan
    frequencies = generator.integers(0, 9, classes)

    def mean(keep) -> float:
        """Mean AP of what ``keep(image, class)`` keeps, over classes with a positive among it."""
        values = []
        for c in range(classes):
            rows = [n for n in range(images) if targets[n, c] != -1 and keep(n, c)]
            if any(targets[n, c] == 1 for n in rows):
                values.append(average_precision_score(targets[rows, c], scores[rows, c]))
        return float(np.mean(values)) if values else float("nan")

    by_size = by_object_size(scores, targets, largest)
    for name, low, high in ((SMALL, 0, 0.01), (MEDIUM, 0.01, 0.1), (LARGE, 0.1, 9)):
        expected = mean(lambda n, c, low=low, high=high: targets[n, c] == 0 or low <= largest[n, c] < high)
        np.testing.assert_allclose(by_size[name]["mAP"], expected)
    positives = (targets == 1).sum(axis=1)
    for group, fits in zip(
        by_label_count(scores, targets).values(), (positives == 1, positives == 2, positives > 2), strict=True
    ):
        np.testing.assert_allclose(group["mAP"], mean(lambda n, c, fits=fits: fits[n]))
        assert group["images"] == fits.sum()
    order = sorted(range(classes), key=lambda c: (frequencies[c], c))
    groups = by_class_frequency(scores, targets, frequencies)
    for group, members in zip(groups.values(), np.array_split(order, 3), strict=True):
        np.testing.assert_allclose(group["mAP"], mean(lambda n, c, members=members: c in members))
