"""The evaluator of a detector's regions."""

import json
import logging
from collections.abc import Iterator

import pytest
import torch
from detectron2.data import Metadata, MetadataCatalog
from detectron2.structures import Boxes, Instances

from helpers.metric_problems import annotation
from mlickd.evaluation import WeakDetectionEvaluator

CLASSES = ["cat", "dog", "sky", "bird"]
CAT, DOG, SKY, BIRD = range(4)
BOX, FAR = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]


RECORDS = [
    {"image_id": "a", "labels": [CAT, SKY], "annotations": [annotation(BOX, CAT)]},
    {"image_id": "b", "labels": [CAT, DOG], "annotations": [annotation(BOX, CAT), annotation(FAR, DOG)]},
    {
        "image_id": "c",
        "labels": [CAT],
        "annotations": [annotation(BOX, CAT, difficult=1), annotation(FAR, BIRD, difficult=1)],
    },
    {"image_id": "d", "labels": [DOG]},  # not annotated
]


def instances(*found):
    result = Instances((100, 100))
    result.pred_boxes = Boxes(torch.tensor([box for _, box, _ in found]).reshape(-1, 4))
    result.scores = torch.tensor([score for *_, score in found])
    result.pred_classes = torch.tensor([label for label, *_ in found], dtype=torch.int64)
    return {"instances": result, "image_scores": torch.rand(4)}


OUTPUTS = [
    instances((CAT, BOX, 3e-9), (SKY, BOX, 0.9)),
    instances((CAT, FAR, 2e-9), (CAT, BOX, 1e-9), (DOG, FAR, 0.2)),
    instances((CAT, BOX, 1.0)),
    instances((DOG, BOX, 1.0)),
]


@pytest.fixture(autouse=True)
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metadata]:
    monkeypatch.setattr("mlickd.data.catalog.class_names", lambda name: CLASSES)
    MetadataCatalog.pop("pets_test", None)  # other tests may have registered it
    yield MetadataCatalog.get("pets_test")
    MetadataCatalog.remove("pets_test")


def evaluator(**options) -> WeakDetectionEvaluator:
    return WeakDetectionEvaluator("pets_test", **({"records": RECORDS} | options))


def detect(evaluator, images=range(4), outputs=OUTPUTS):
    for image in images:
        evaluator.process([RECORDS[image]], [outputs[image]])
    return evaluator


def test_results_by_hand():
    results = detect(evaluator()).evaluate()
    # Cats: correct, false, correct, for 2 objects (the difficult one is ignored). Dogs: correct. Birds: no objects.
    # The scores of the cats would be equal at any fixed number of decimals.
    expected = {
        "AP50": pytest.approx(100 * ((51 * 1 + 50 * 2 / 3) / 101 + 1) / 2),
        "VOC_AP": pytest.approx(100 * ((1 + 2 / 3) / 2 + 1) / 2),
        "CorLoc": pytest.approx(100 * (1 / 2 + 1) / 2),
    }
    assert results == {"detection": expected}
    assert all(type(value) is float for value in results["detection"].values())
    assert detect(evaluator(), [3, 0, 2, 1, 0, 1]).evaluate() == results  # samplers repeat images


def test_voc_2007_uses_the_eleven_point_rule(metadata):
    metadata.year = 2007
    results = detect(evaluator()).evaluate()["detection"]
    assert results["VOC_AP"] == pytest.approx(100 * ((6 * 1 + 5 * 2 / 3) / 11 + 1) / 2)


def test_a_dataset_without_boxes_is_not_evaluated(caplog, tmp_path):
    with caplog.at_level(logging.INFO, logger="mlickd.evaluation"):
        without = evaluator(output_dir=str(tmp_path), records=[{"image_id": "a", "labels": [0]}])
    assert "pets_test" in caplog.text
    without.process([RECORDS[0]], [{"image_scores": torch.rand(4)}])  # has no instances
    assert without.evaluate() == {} and list(tmp_path.iterdir()) == []


def test_report_and_warnings(tmp_path, caplog):
    outputs = [*OUTPUTS[:1], instances((CAT, BOX, 0.5)), *OUTPUTS[2:]]
    with caplog.at_level(logging.INFO, logger="mlickd.evaluation"):
        results = detect(evaluator(output_dir=str(tmp_path)), outputs=outputs).evaluate()["detection"]
    report = json.loads((tmp_path / "detection_results.json").read_text())
    assert report["metrics"] == pytest.approx(results)
    assert list(report["per_class"]) == ["cat", "dog", "bird"] and report["per_class"]["bird"]["AP50"] is None
    counts = {"positive_images": 1, "positive_images_without_region": 1}
    assert report["per_class"]["dog"] == {"AP50": 0.0, "VOC_AP": 0.0, "CorLoc": 0.0, **counts}
    assert report["protocol"]["images"] == 3 and report["protocol"]["images_without_annotations"] == 1
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "bird" in warnings[0] and "MODEL.ROI_HEADS.SCORE_THRESH_TEST" in warnings[1]
