from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.evaluation import print_csv_format, verify_results
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils.events import EventStorage

from mlickd.data.records import label_targets
from mlickd.errors import InputError
from mlickd.evaluation import MultiLabelEvaluator, multilabel_metrics
from mlickd.evaluation.thresholds import ClassThresholds

CLASSES = ["cat", "dog", "bird", "yeti"]
RECORDS = [
    {"image_id": "a.jpg", "file_name": "/images/a.jpg", "labels": [0, 2]},
    {"image_id": "b.jpg", "file_name": "/images/b.jpg", "labels": [1]},
    {"image_id": "ç.jpg", "file_name": "/images/ç.jpg", "labels": [], "ignored_labels": [0]},
    {"image_id": 7, "file_name": "/images/7.jpg", "labels": [0], "ignored_labels": [0, 1]},
]
TARGETS = np.array([[1, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [1, -1, 0, 0]])
SCORES = np.random.default_rng(0).random((4, 4), dtype=np.float32)


def evaluator(**options) -> MultiLabelEvaluator:
    return MultiLabelEvaluator("pets_test", **({"records": RECORDS, "class_names": CLASSES} | options))


def score(evaluator, images=range(4), scores=SCORES):
    for image in images:
        evaluator.process([{"image_id": RECORDS[image]["image_id"]}], [{"image_scores": torch.tensor(scores[image])}])
    return evaluator


def test_label_targets():
    targets = label_targets(RECORDS, 4)
    assert targets.dtype == np.int8
    np.testing.assert_array_equal(targets, TARGETS)


@pytest.mark.parametrize("field", ["labels", "ignored_labels"])
@pytest.mark.parametrize("label", [-1, 4])
def test_label_out_of_range_is_refused(field, label):
    with pytest.raises(InputError, match=rf"image a.jpg: {field} .* not all in \[0, 4\)"):
        label_targets([{"image_id": "a.jpg", "labels": []} | {field: [label]}], 4)


def test_results_are_the_pure_metrics_in_percent():
    results = score(evaluator(), images=[2, 0, 3, 1]).evaluate()["multilabel"]
    metrics = multilabel_metrics(SCORES, TARGETS)
    assert set(results) == {key for key, value in metrics.items() if isinstance(value, float)}
    for key, value in results.items():
        assert type(value) is float and value == pytest.approx(100 * metrics[key])


def test_options_reach_the_metrics():
    results = score(evaluator(threshold=0.3, topk=2, ap="voc07")).evaluate()["multilabel"]
    metrics = multilabel_metrics(SCORES, TARGETS, threshold=0.3, topk=2, ap="voc07")
    for key in ("mAP", "OF1", "top2/OF1", "top2_thresholded/CF1"):
        assert results[key] == pytest.approx(100 * metrics[key])


TUNED = ClassThresholds(
    class_names=CLASSES,
    thresholds=[0.2, 0.4, 0.6, 0.8],
    f1=[0.5] * 4,
    positives=[3] * 4,
    default_threshold=0.5,
    dataset="pets_val",
    images=9,
    data_sha256="abc",
    checkpoint="model_final.pth",
    checkpoint_sha256="def",
)


def test_thresholds_of_each_class_stand_in_for_the_one_and_are_named(tmp_path):
    results = score(evaluator(threshold=0.5, class_thresholds=TUNED, output_dir=str(tmp_path))).evaluate()["multilabel"]
    metrics = multilabel_metrics(SCORES, TARGETS, threshold=TUNED.thresholds)
    assert results == pytest.approx({key: 100 * value for key, value in metrics.items() if isinstance(value, float)})
    protocol = json.loads((tmp_path / "multilabel_results.json").read_text())["protocol"]
    assert protocol["threshold"] == TUNED.thresholds
    assert protocol["threshold_rule"] == "score >= the threshold of its class"
    assert protocol["thresholds_tuned_on"] == {"name": "pets_val", "images": 9, "sha256": "abc"}


def test_thresholds_of_other_classes_are_refused():
    with pytest.raises(InputError, match="thresholds of each class for 'pets_test'"):
        evaluator(class_thresholds=TUNED, class_names=CLASSES[::-1])


def test_the_report_says_where_its_numbers_come_from(tmp_path):
    source = {"data": {"sha256": "abc"}, "versions": {"mlickd": "1"}}
    score(evaluator(provenance=source, output_dir=str(tmp_path))).evaluate()
    report = json.loads((tmp_path / "multilabel_results.json").read_text())
    assert {key: report[key] for key in source} == source and "mAP" in report["metrics"]


def test_duplicates_of_a_padding_sampler_are_dropped():
    results = score(evaluator(), images=[0, 1, 2, 3, 0, 0, 2]).evaluate()
    assert results == score(evaluator()).evaluate()


def test_predictions_of_all_processes_are_gathered(monkeypatch):
    other = score(evaluator(), images=[1, 3])
    main = score(evaluator(), images=[0, 2, 1])
    monkeypatch.setattr("detectron2.utils.comm.gather", lambda data: [data, other._predictions])
    assert main.evaluate() == {"multilabel": pytest.approx(score_alone())}


def score_alone():
    metrics = multilabel_metrics(SCORES, TARGETS)
    return {key: 100 * value for key, value in metrics.items() if isinstance(value, float)}


def test_other_processes_return_nothing(monkeypatch):
    other = score(evaluator(), images=[1])
    monkeypatch.setattr("detectron2.utils.comm.gather", lambda data: [])
    monkeypatch.setattr("detectron2.utils.comm.is_main_process", lambda: False)
    assert other.evaluate() == {}


def test_reset_forgets():
    once = score(evaluator(), scores=SCORES[::-1])
    once.reset()
    assert score(once).evaluate() == score(evaluator()).evaluate()


def test_missing_image_is_an_error():
    with pytest.raises(InputError, match=r"1 images \(first: '7'\) were not scored but in dataset 'pets_test'"):
        score(evaluator(), images=[0, 1, 2]).evaluate()


def test_foreign_image_is_an_error():
    scored = score(evaluator())
    scored.process([{"image_id": "z.jpg"}], [{"image_scores": torch.rand(4)}])
    with pytest.raises(InputError, match=r"'z.jpg'\) were scored but not in dataset"):
        scored.evaluate()


def test_wrong_number_of_scores_is_an_error():
    with pytest.raises(InputError, match="'a.jpg'.*has 4 classes.*NUM_CLASSES"):
        score(evaluator(), images=[0], scores=SCORES[:, :3])


@pytest.mark.parametrize("bad", [1.5, -0.5, float("nan"), 12.0])
def test_scores_that_are_no_probabilities_are_an_error(bad):
    scores = SCORES.copy()
    scores[0, 1] = bad
    with pytest.raises(InputError, match="'a.jpg'.*probabilities"):
        score(evaluator(), images=[0], scores=scores)


def test_rounding_of_a_sum_of_probabilities_is_forgiven():
    scores = SCORES.copy()
    scores[:, 0] = np.nextafter(np.float32(1), np.float32(2))
    assert np.isfinite(score(evaluator(), scores=scores).evaluate()["multilabel"]["mAP"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ap": "coco"}, "unknown AP rule"),
        ({"threshold": 2.0}, "threshold"),
        ({"topk": 0}, "topk"),
        ({"records": []}, "no record"),
        ({"records": [RECORDS[0], RECORDS[0]]}, "'a.jpg' twice"),
    ],
)
def test_bad_options_are_refused_at_once(options, message):
    with pytest.raises(InputError, match=message):
        evaluator(**options)


def test_reports_on_disk_hold_everything(tmp_path):
    results = score(evaluator(output_dir=str(tmp_path / "new" / "place"))).evaluate()["multilabel"]
    report = json.loads((tmp_path / "new" / "place" / "multilabel_results.json").read_text())
    assert report["metrics"] == pytest.approx(results)
    assert list(report["per_class"]) == CLASSES
    assert report["per_class"]["yeti"] == {"AP": None, "positives": 0}
    assert report["per_class"]["cat"]["positives"] == 2
    assert report["counts"]["classes_without_positives"] == 1
    assert report["protocol"]["threshold"] == 0.5
    assert report["dataset"] == "pets_test" and report["unit"] == "percent"

    with np.load(tmp_path / "new" / "place" / "image_scores.npz", allow_pickle=False) as saved:
        assert saved["image_ids"].tolist() == ["a.jpg", "b.jpg", "ç.jpg", "7"]
        assert saved["class_names"].tolist() == CLASSES
        assert (saved["scores"].dtype, saved["targets"].dtype) == (np.float32, np.int8)
        again = multilabel_metrics(saved["scores"], saved["targets"])
    assert 100 * again["mAP"] == pytest.approx(results["mAP"], abs=0)


def test_log_names_protocol_and_classes_without_a_positive(caplog):
    with caplog.at_level(logging.INFO, logger="mlickd.evaluation"):
        score(evaluator()).evaluate()
    text = caplog.text
    assert "ranking AP" in text and "score >= 0.5" in text and "top-3" in text and "CF1_class_mean" in text
    (warning,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert warning.getMessage().endswith("yeti")


def test_results_suit_detectron2(caplog):
    results = score(evaluator()).evaluate()
    with caplog.at_level(logging.INFO, logger="detectron2"):
        print_csv_format(results)
    assert "multilabel" in caplog.text and "top3_thresholded/OF1" in caplog.text

    cfg = get_cfg()
    cfg.TEST.EXPECTED_RESULTS = [["multilabel", "mAP", results["multilabel"]["mAP"], 0.01]]
    assert verify_results(cfg, results)

    with EventStorage() as storage:
        storage.put_scalars(**flatten_results_dict(results), smoothing_hint=False)
        assert storage.latest()["multilabel/top3/OF1"][0] == results["multilabel"]["top3/OF1"]


def _evaluate_in_process():
    from detectron2.utils import comm

    images = [[0, 2, 1], [1, 3, 0]][comm.get_rank()]  # padded: images 0 and 1 come twice
    results = score(evaluator(), images).evaluate()
    assert results == ({"multilabel": pytest.approx(score_alone())} if comm.is_main_process() else {})


@pytest.mark.slow
def test_two_processes(monkeypatch):
    from detectron2.engine import launch

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    launch(_evaluate_in_process, num_gpus_per_machine=2, dist_url="auto")
