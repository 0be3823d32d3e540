from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlickd.visualization.results import (
    ImageResult,
    Prediction,
    format_score,
    image_result,
    one_line,
    ranked_right,
    top_predictions,
)

NAMES = ["cat", "dog", "cow", "car"]


def predictions(*correct: bool | None) -> tuple[Prediction, ...]:
    return tuple(Prediction(f"class{rank}", 0.9 - 0.1 * rank, value) for rank, value in enumerate(correct))


def test_top_predictions_are_the_best_and_know_what_is_right():
    found = top_predictions(np.array([0.1, 0.8, 0.8, 0.9]), NAMES, labels=[1], ignored=[3])
    assert found == (
        Prediction("car", 0.9, None),
        Prediction("dog", 0.8, True),  # before cow: equal scores keep the order of the classes
        Prediction("cow", 0.8, False),
    )


def test_a_true_class_counts_even_where_it_is_ignored():
    assert top_predictions(np.array([0.9, 0, 0, 0]), NAMES, labels=[0], ignored=[0], top_k=1)[0].correct is True


def test_scores_of_other_classes_are_refused():
    with pytest.raises(ValueError, match="3,.*4 classes"):
        top_predictions(np.zeros(3), NAMES, labels=[])


def test_without_labels_nothing_is_right_or_wrong():
    output = {"image_scores": torch.tensor([0.1, 0.8, 0.3, 0.9])}
    result = image_result({"image_id": 1, "file_name": "a.jpg"}, NAMES, without=output, distilled=output)
    assert result.labels is None and result.outcome is None
    assert [prediction.correct for prediction in result.without] == [None] * 3


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12), st.integers(1, 15))
def test_no_class_that_is_left_out_has_a_higher_score(scores: list[float], top_k: int):
    names = [str(index) for index in range(len(scores))]
    found = top_predictions(np.array(scores), names, labels=[], top_k=top_k)
    shown = [prediction.score for prediction in found]
    assert len(found) == min(top_k, len(scores))
    assert shown == sorted(scores, reverse=True)[:top_k]


@pytest.mark.parametrize(
    ("correct", "num_labels", "expected"),
    [
        ((True, False, False), 1, True),
        ((False, True, False), 1, False),
        ((True, True, False), 2, True),
        ((True, False, True), 2, False),
        ((True, True, True), 5, True),
        ((None, True, False), 1, True),
        ((False, False, False), 0, None),
        ((None, None, None), 1, None),
    ],
)
def test_right_is_as_many_of_the_best_as_there_are_labels(correct, num_labels, expected):
    assert ranked_right(predictions(*correct), num_labels) is expected


@pytest.mark.parametrize(
    ("without", "distilled", "expected"),
    [
        (predictions(False), predictions(True), "fixed"),
        (predictions(True), predictions(False), "broken"),
        (predictions(True), predictions(True), "both-right"),
        (predictions(False), predictions(False), "both-wrong"),
        (predictions(True), None, "right"),
        (None, predictions(False), "wrong"),
        (None, None, None),
        (predictions(None), predictions(True), None),
    ],
)
def test_outcome(without, distilled, expected):
    result = ImageResult("1", "1.jpg", ("cat",), without, distilled)
    assert result.outcome == expected


def test_image_result_brings_record_and_outputs_together():
    record = {"image_id": 7, "file_name": "7.jpg", "labels": [1, 2], "ignored_labels": [3]}
    instances = SimpleNamespace(to=lambda device: device)
    result = image_result(
        record,
        NAMES,
        distilled={"image_scores": torch.tensor([0.1, 0.7, 0.2, 0.9])},
        teacher={"instances": instances},
    )
    assert (result.image_id, result.labels, result.regions) == ("7", ("dog", "cow"), "cpu")
    assert list(result.students) == ["With distillation"]
    assert [prediction.correct for prediction in result.distilled] == [None, True, True]
    assert result.outcome == "right"


@pytest.mark.parametrize(("score", "text"), [(0.0, "0.00"), (0.001, "<0.01"), (0.005, "0.01"), (1.0, "1.00")])
def test_format_score(score: float, text: str):
    assert format_score(score) == text


def test_one_line_has_no_breaks_and_nothing_invisible():
    assert one_line("a\n b\t\x1bc\u202ed") == "a b  c d"
