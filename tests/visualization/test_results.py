from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlickd.visualization.results import (
    Prediction,
    format_score,
    image_result,
    one_line,
    shown_predictions,
    top_predictions,
)

NAMES = ["cat", "dog", "cow", "car"]
VERDICTS = ("right", "wrong", "missed", "uncounted", "below")


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
    result = image_result({"image_id": 1, "file_name": "a.jpg"}, NAMES, baseline=output, distilled=output)
    assert result.labels is None
    assert [prediction.correct for prediction in result.baseline] == [None] * 3


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12), st.integers(1, 15))
def test_no_class_that_is_left_out_has_a_higher_score(scores: list[float], top_k: int):
    names = [str(index) for index in range(len(scores))]
    found = top_predictions(np.array(scores), names, labels=[], top_k=top_k)
    shown = [prediction.score for prediction in found]
    assert len(found) == min(top_k, len(scores))
    assert shown == sorted(scores, reverse=True)[:top_k]


@given(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans(), st.booleans()), min_size=1, max_size=12),
    st.floats(0, 1),
    st.integers(0, 4),
)
def test_verdicts_are_those_of_sets(classes: list[tuple[float, bool, bool]], threshold: float, top_k: int):
    names = [str(index) for index in range(len(classes))]
    scores, positive, ignored = (np.array(column) for column in zip(*classes, strict=True))
    labels = np.flatnonzero(positive).tolist()
    found = shown_predictions(
        scores, names, labels, ignored=np.flatnonzero(ignored).tolist(), thresholds=threshold, top_k=top_k
    )
    shown = {verdict: {int(said.class_name) for said in found if said.verdict == verdict} for verdict in VERDICTS}
    predicted, true = set(np.flatnonzero(scores >= threshold).tolist()), set(labels)
    baseline = set(np.flatnonzero(ignored).tolist()) - true
    assert shown["right"] == predicted & true
    assert shown["missed"] == true - predicted
    assert shown["wrong"] == predicted - true - baseline
    assert shown["uncounted"] == predicted & baseline
    best = set(np.argsort(-scores, kind="stable")[:top_k].tolist())
    assert shown["below"] == best - predicted - true
    assert [said.score for said in found] == sorted((said.score for said in found), reverse=True)


def test_each_class_has_its_own_threshold():
    found = shown_predictions(np.array([0.6, 0.6, 0.2]), NAMES[:3], [0, 1], thresholds=np.array([0.5, 0.7, 0.9]))
    assert [said.verdict for said in found] == ["right", "missed", "below"]


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
    assert list(result.students) == ["Distilled"]
    assert [prediction.correct for prediction in result.distilled] == [None, True, True]


def test_thresholds_and_maps_are_those_of_each_student():
    maps = torch.arange(16.0).reshape(4, 2, 2)
    record = {"image_id": 7, "file_name": "7.jpg", "labels": [1]}
    output = {"image_scores": torch.tensor([0.1, 0.4, 0.2, 0.3]), "activation_maps": maps}
    thresholds = {"baseline": 0.5, "distilled": np.array([0.5, 0.4, 0.5, 0.5])}
    result = image_result(record, NAMES, baseline=output, distilled=output, thresholds=thresholds, top_k=2)
    assert [said.verdict for said in result.baseline] == ["missed", "below"]
    assert [said.verdict for said in result.distilled] == ["right", "below"]
    for student in result.students:
        assert set(result.activations[student]) == {"dog", "car"}
        assert np.array_equal(result.activations[student]["car"], maps[3].numpy())


@pytest.mark.parametrize(("score", "text"), [(0.0, "0.00"), (0.001, "<0.01"), (0.005, "0.01"), (1.0, "1.00")])
def test_format_score(score: float, text: str):
    assert format_score(score) == text


def test_one_line_has_no_breaks_and_nothing_invisible():
    assert one_line("a\n b\t\x1bc\u202ed") == "a b  c d"
