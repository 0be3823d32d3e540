"""Results of images: verdicts, order, scores and text."""

import numpy as np
import torch
from detectron2.structures import Instances

from mlickd.visualization.image_results import ClassResult, class_results, format_score, image_result, printable_line

NAMES = ["cat", "dog", "cow", "car"]


def test_the_best_classes_come_first_with_their_thresholds():
    found = class_results(np.array([0.1, 0.8, 0.8, 0.9]), NAMES, [1], ignored=[1, 3], thresholds=np.full(4, 0.85))
    assert found == (
        ClassResult("car", 0.9, None, True),
        ClassResult("dog", 0.8, True, False),  # before cow: equal scores keep the order of the classes
        ClassResult("cow", 0.8, False, False),
    )
    found = class_results(np.array([0.4, 0.3, 0.2, 0.1]), NAMES, [0, 3], thresholds=np.full(4, 0.3))
    assert [result.verdict for result in found] == ["right", "wrong", "below", "missed"]


def test_an_image_result_combines_record_and_outputs():
    maps = torch.arange(16.0).reshape(4, 2, 2)
    record = {"image_id": 7, "file_name": "7.jpg", "labels": [1], "ignored_labels": [3]}
    output = {"image_scores": torch.tensor([0.1, 0.4, 0.2, 0.3]), "activation_maps": maps}
    thresholds = {"baseline": 0.5, "distilled": np.array([0.5, 0.4, 0.5, 0.5])}
    teacher = {"instances": Instances((9, 9))}
    result = image_result(record, NAMES, baseline=output, distilled=output, teacher=teacher, thresholds=thresholds)
    assert (result.image_id, result.labels, result.regions.image_size) == ("7", ("dog",), (9, 9))
    assert [shown.verdict for shown in result.students["baseline"]] == ["missed", "below", "below"]
    assert [shown.verdict for shown in result.students["distilled"]] == ["right", "below", "below"]
    for activations in result.activations.values():
        assert set(activations) == {"dog", "car", "cow"}
        assert np.array_equal(activations["car"], maps[3].numpy())
    unlabeled = image_result({"image_id": 1, "file_name": "a.jpg"}, NAMES, distilled=output)
    assert unlabeled.labels is None and list(unlabeled.students) == ["distilled"]
    assert {shown.is_label for shown in unlabeled.students["distilled"]} == {None}


def test_scores_and_names_are_formatted():
    assert [format_score(score) for score in (0.0, 0.001, 0.005, 1.0)] == ["0.00", "<0.01", "0.01", "1.00"]
    assert printable_line("a\n b\t\x1bc\u202ed") == "a b  c d", "without line breaks and invisible characters"
