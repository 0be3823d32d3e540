"""Metrics of parts of a dataset, compared with scikit-learn, and label dependencies, compared with counting."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score

from mlickd.errors import InputError
from mlickd.evaluation import breakdown
from mlickd.evaluation.breakdown import OBJECT_SIZES, conditional_frequencies, dependency_error, largest_objects

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
    with pytest.raises(InputError, match="image a: .* height and width"):
        largest_objects([{"image_id": "a", "annotations": [box(0, 1, 1)]}], 1)


def test_groups_by_label_count_by_hand() -> None:
    targets = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0]])
    scores = np.array([[0.9, 0.8, 0.1], [0.6, 0.7, 0.1], [0.9, 0.1, 0.2], [0.1, 0.2, 0.3], [0.9, 0.9, 0.9]])
    one, two, three = breakdown.by_label_count(scores, targets).values()
    # Class 0: 0.9 is first. Class 1: 0.7 comes after 0.8. Predicted: 4, of which 2 are correct.
    assert one == {"mAP": 0.75, "OR": 1, "OF1": pytest.approx(2 / 3), "images": 2, "positives": 2, "classes": 2}
    assert two == {"mAP": 1, "OR": 0.5, "OF1": pytest.approx(2 / 3), "images": 1, "positives": 2, "classes": 2}
    assert three == {"mAP": 1, "OR": 0, "OF1": 0, "images": 1, "positives": 3, "classes": 3}
    *_, three = breakdown.by_label_count(scores[:1], targets[:1]).values()
    assert three["images"] == three["classes"] == 0 and math.isnan(three["mAP"]) and math.isnan(three["OF1"])


@given(st.integers(0, 2**32), st.integers(2, 30), st.integers(1, 7))
def test_every_group_agrees_with_scikit_learn(seed: int, images: int, classes: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 6, (images, classes)) / 5
    targets = generator.choice([-1, 0, 1], (images, classes), p=[0.1, 0.5, 0.4])
    largest = np.where(targets == 1, 10 ** generator.uniform(-3, 0, targets.shape), np.nan)
    largest[generator.random(targets.shape) < 0.2] = np.nan
    frequencies = generator.integers(0, 9, classes)

    def mean(keep) -> float:
        """Mean AP of the entries for which ``keep(image, class)`` is true, over classes with a positive."""
        values = []
        for c in range(classes):
            rows = [n for n in range(images) if targets[n, c] != -1 and keep(n, c)]
            if any(targets[n, c] == 1 for n in rows):
                values.append(average_precision_score(targets[rows, c], scores[rows, c]))
        return float(np.mean(values)) if values else float("nan")

    by_size = breakdown.by_object_size(scores, targets, largest)
    for name, low, high in ((SMALL, 0, 0.01), (MEDIUM, 0.01, 0.1), (LARGE, 0.1, 9)):
        expected = mean(lambda n, c, low=low, high=high: targets[n, c] == 0 or low <= largest[n, c] < high)
        np.testing.assert_allclose(by_size[name]["mAP"], expected)
    positives = (targets == 1).sum(axis=1)
    for group, fits in zip(
        breakdown.by_label_count(scores, targets).values(), (positives == 1, positives == 2, positives > 2), strict=True
    ):
        np.testing.assert_allclose(group["mAP"], mean(lambda n, c, fits=fits: fits[n]))
        assert group["images"] == fits.sum()
    order = sorted(range(classes), key=lambda c: (frequencies[c], c))
    groups = breakdown.by_class_frequency(scores, targets, frequencies)
    for group, members in zip(groups.values(), np.array_split(order, 3), strict=True):
        np.testing.assert_allclose(group["mAP"], mean(lambda n, c, members=members: c in members))


DECISIONS = st.tuples(st.integers(1, 12), st.integers(1, 5)).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)


@given(DECISIONS)
def test_conditional_frequencies_agree_with_counting(decisions: tuple[np.ndarray, np.ndarray]) -> None:
    positive, known = decisions
    fractions = conditional_frequencies(positive, known)
    for row, column in np.ndindex(fractions.shape):
        images = [n for n in range(len(positive)) if positive[n, row] and known[n, row] and known[n, column]]
        if row == column or not images:
            assert np.isnan(fractions[row, column])
        else:
            assert fractions[row, column] == pytest.approx(sum(positive[n, column] for n in images) / len(images))


def test_independent_predictions_have_a_large_dependency_error() -> None:
    generator = np.random.default_rng(0)
    truth = np.eye(3, dtype=bool)[generator.integers(0, 3, 3000)][:, [0, 0, 1, 1, 2, 2]]  # classes come in pairs
    independent = generator.random(truth.shape) < truth.mean(axis=0)
    frequencies, found = (conditional_frequencies(labels, np.ones_like(truth)) for labels in (truth, independent))
    same, wrong = dependency_error(frequencies, frequencies, found)
    assert same == (0, pytest.approx(1), 30)
    # The partner of a class is always present and predicted one time in three: 2/3 in 6 pairs, 1/3 in 24.
    assert wrong == (pytest.approx((6 * 2 / 3 + 24 / 3) / 30, abs=0.02), pytest.approx(0, abs=0.5), 30)


def test_models_are_compared_on_the_same_pairs() -> None:
    truth = np.array([[np.nan, 0.5, 0.2], [0.4, np.nan, 0.1], [0.3, 0.3, np.nan]])
    never = truth.copy()
    never[2] = np.nan  # this model never predicts the third class
    errors = dependency_error(truth, truth + 0.1, never)
    assert errors[0] == pytest.approx((0.1, 1, 4)) and errors[1][2] == 4
    assert dependency_error(truth, np.full((3, 3), np.nan))[0] == pytest.approx((math.nan, math.nan, 0), nan_ok=True)
    assert np.isnan(dependency_error(truth, np.full((3, 3), 0.5))[0][1]), "it does not vary"
