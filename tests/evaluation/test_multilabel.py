"""The evaluator of image scores keeps one prediction for each record and reports the metrics in percent."""

import json
import logging

import numpy as np
import pytest
import torch

from mlickd.errors import InputError
from mlickd.evaluation import MultiLabelEvaluator, multilabel_metrics
from mlickd.evaluation.score_files import read_scores

CLASSES = ["cat", "dog", "bird", "yeti"]
RECORDS = [
    {"image_id": "a.jpg", "file_name": "/images/a.jpg", "labels": [0, 2]},
    {"image_id": "b.jpg", "file_name": "/images/b.jpg", "labels": [1]},
    {"image_id": "ç.jpg", "file_name": "/images/ç.jpg", "labels": [], "ignored_labels": [0]},
    {"image_id": 7, "file_name": "/images/7.jpg", "labels": [0], "ignored_labels": [0, 1]},
]
TARGETS = np.array([[1, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [1, -1, 0, 0]])
SCORES = np.random.default_rng(0).random((4, 4), dtype=np.float32)


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlickd.data.catalog.class_names", lambda name: CLASSES)


def evaluator(**options) -> MultiLabelEvaluator:
    return MultiLabelEvaluator("pets_test", records=RECORDS, **options)


def score(evaluator, images=range(4), scores=SCORES):
    for image in images:
        evaluator.process([{"image_id": RECORDS[image]["image_id"]}], [{"image_scores": torch.tensor(scores[image])}])
    return evaluator


def in_percent(**options) -> dict[str, float]:
    metrics = multilabel_metrics(SCORES, TARGETS, **options)
    return {key: 100 * value for key, value in metrics.items() if isinstance(value, float)}


@pytest.mark.parametrize(
    ("options", "images"),
    [
        ({}, [2, 0, 3, 1]),
        ({}, [0, 1, 2, 3, 0, 0, 2]),  # samplers repeat images
        ({"threshold": 0.3, "topk": 2, "ap": "voc07"}, range(4)),
    ],
)
def test_results_are_the_metrics_in_percent(options, images):
    used = score(evaluator(**options), scores=SCORES[::-1])
    used.reset()
    results = score(used, images).evaluate()["multilabel"]
    assert results == pytest.approx(in_percent(**options)) and {type(value) for value in results.values()} == {float}


def test_missing_and_unknown_images_are_refused():
    with pytest.raises(InputError, match="'pets_test': .* 1 .*'7'"):
        score(evaluator(), [0, 1, 2]).evaluate()
    scored = score(evaluator())
    scored.process([{"image_id": "z.jpg"}], [{"image_scores": torch.rand(4)}])
    with pytest.raises(InputError, match="'pets_test': .* 1 .*'z.jpg'"):
        scored.evaluate()


def test_scores_that_are_not_probabilities_are_refused():
    with pytest.raises(InputError, match="'a.jpg'.* 4 classes.*MODEL.NUM_CLASSES"):
        score(evaluator(), [0], SCORES[:, :3])
    scores = SCORES.copy()
    for bad in (1.5, -0.5, float("nan")):
        scores[0, 1] = bad
        with pytest.raises(InputError, match="'a.jpg': image_scores"):
            score(evaluator(), [0], scores)
    scores[:, 1] = np.nextafter(np.float32(1), np.float32(2))  # rounding of a sum
    assert np.isfinite(score(evaluator(), scores=scores).evaluate()["multilabel"]["mAP"])


def test_reports_hold_everything(tmp_path, caplog):
    folder, source = tmp_path / "new" / "place", {"data": {"sha256": "abc"}, "versions": {"mlickd": "1"}}
    options = {"threshold": 0.4, "provenance": source, "output_dir": str(folder)}
    with caplog.at_level(logging.INFO, logger="mlickd.evaluation"):
        results = score(evaluator(**options)).evaluate()["multilabel"]
    assert results == pytest.approx(in_percent(threshold=0.4))
    report = json.loads((folder / "multilabel_results.json").read_text())
    assert report["metrics"] == pytest.approx(results) and source.items() <= report.items()
    assert list(report["per_class"]) == CLASSES and report["per_class"]["cat"]["positives"] == 2
    assert report["per_class"]["yeti"] == {"AP": None, "positives": 0}
    assert report["counts"]["classes_without_positives"] == 1
    assert (report["dataset"], report["unit"]) == ("pets_test", "percent")
    protocol = report["protocol"]
    assert protocol["threshold"] == 0.4
    for text in ("ranking AP", protocol["threshold_rule"], "top-3", "CF1_class_mean"):
        assert text in caplog.text

    saved = read_scores(str(folder / "image_scores.npz"))
    assert saved.image_ids == ["a.jpg", "b.jpg", "ç.jpg", "7"] and saved.class_names == CLASSES
    assert 100 * multilabel_metrics(saved.scores, saved.targets)["mAP"] == pytest.approx(results["mAP"], abs=0)
