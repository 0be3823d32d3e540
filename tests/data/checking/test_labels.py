from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlickd.data.checking.labels import class_findings, label_statistics

NAMES = ["cat", "dog", "cow"]


def records(*labels: list[int]) -> list[dict]:
    return [{"image_id": i, "labels": each} for i, each in enumerate(labels)]


@given(st.lists(st.tuples(st.sets(st.integers(0, 2)), st.sets(st.integers(0, 2))), min_size=1, max_size=12))
def test_statistics_are_plain_counts(rows):
    items = [{"image_id": i, "labels": sorted(a), "ignored_labels": sorted(b)} for i, (a, b) in enumerate(rows)]
    found = label_statistics(items, NAMES)
    expected = [[sum({i, j} <= labels for labels, _ in rows) for j in range(3)] for i in range(3)]
    np.testing.assert_array_equal(found.together, expected)
    np.testing.assert_array_equal(found.positives, np.diagonal(expected))
    np.testing.assert_array_equal(found.ignored, [sum(c in b - a for a, b in rows) for c in range(3)])
    sizes = [len(labels) for labels, _ in rows]
    assert found.per_image == {size: sizes.count(size) for size in sorted(set(sizes))}


def test_classes_that_are_missing_or_everywhere():
    found = class_findings(
        {"train": label_statistics(records([0, 1], [0]), NAMES), "test": label_statistics(records([0], [2], []), NAMES)}
    )
    assert [(f.severity, f.dataset, f.message.split(",")[0], list(f.examples)) for f in found] == [
        ("warning", "train", "1 class has no image here", ["cow"]),
        ("warning", "train", "1 class is in every image", ["cat"]),
        ("warning", "test", "1 class has no image here", ["dog"]),
        ("note", "test", "1 image has no label; it is a negative of every class", []),
    ]
    assert "1 of them have some in test" in found[0].message


def test_class_lists_that_differ_are_errors():
    labels = {name: label_statistics(records([0], [1]), NAMES[:2]) for name in ("train", "same")}
    labels["order"] = label_statistics(records([0], [1]), ["dog", "cat"])
    labels["other"] = label_statistics(records([0], [1]), ["cat", "hen"])
    errors = [finding for finding in class_findings(labels) if finding.severity == "error"]
    assert [finding.dataset for finding in errors] == ["order", "other"]
    assert "another order than those of train, from 'cat' on" in errors[0].message
    assert list(errors[1].examples) == ["dog", "hen"]
