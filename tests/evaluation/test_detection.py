from __future__ import annotations

import json
import logging

import pytest
import torch
from detectron2.structures import Boxes, BoxMode, Instances

from mlickd.errors import InputError
from mlickd.evaluation import WeakDetectionEvaluator

CLASSES = ["cat", "dog", "sky", "bird"]
CAT, DOG, SKY, BIRD = range(4)
BOX, FAR = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]


def annotation(label, box, **flags):
    return {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": label, "iscrowd": 0} | flags


RECORDS = [
    {"image_id": "a", "labels": [CAT, SKY], "annotations": [annotation(CAT, BOX)]},
    {"image_id": "b", "labels": [CAT, DOG], "annotations": [annotation(CAT, BOX), annotation(DOG, FAR)]},
    {"image_id": "c", "labels": [CAT], "annotations": [annotation(CAT, BOX, difficult=1)]},
    {"image_id": "d", "labels": [DOG]},  # its boxes are not known
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


def evaluator(**options) -> WeakDetectionEvaluator:
    options = {"records": RECORDS, "class_names": CLASSES, "box_classes": [CAT, DOG, BIRD]} | options
    return WeakDetectionEvaluator("pets_test", **options)


def detect(evaluator, images=range(4)):
    for image in images:
        evaluator.process([RECORDS[image]], [OUTPUTS[image]])
    return evaluator


def test_results_by_hand():
    results = detect(evaluator()).evaluate()
    # Cats: right, wrong, right, over 2 objects (the difficult one is ignored). Dogs: right. Birds: none to
    # find.
    cat_coco = (51 * 1 + 50 * 2 / 3) / 101
    cat_voc = (1 + 2 / 3) / 2
    assert results == {
        "detection": {
            "AP50": pytest.approx(100 * (cat_coco + 1) / 2),
            "VOC_AP": pytest.approx(100 * (cat_voc + 1) / 2),
            "CorLoc": pytest.approx(100 * (1 / 2 + 1) / 2),
        }
    }
    assert all(type(value) is float for value in results["detection"].values())


def test_scores_keep_their_precision():
    # 3e-9, 2e-9 and 1e-9 would tie at any fixed number of decimals, and the wrong cat would share the first
    # place.
    flat = detect(evaluator())
    flat._predictions = [(i, (boxes, scores.round(3), labels)) for i, (boxes, scores, labels) in flat._predictions]
    assert flat.evaluate()["detection"]["VOC_AP"] < detect(evaluator()).evaluate()["detection"]["VOC_AP"]


def test_eleven_point_rule_by_option_and_by_year():
    from detectron2.data import MetadataCatalog

    by_option = detect(evaluator(voc_ap="voc07")).evaluate()["detection"]
    assert by_option["VOC_AP"] == pytest.approx(100 * ((6 * 1 + 5 * 2 / 3) / 11 + 1) / 2)
    MetadataCatalog.get("pets_2007_test").year = 2007
    try:
        by_year = WeakDetectionEvaluator("pets_2007_test", records=RECORDS, class_names=CLASSES, box_classes=[CAT, DOG])
    finally:
        MetadataCatalog.remove("pets_2007_test")
    assert detect(by_year).evaluate()["detection"] == pytest.approx(by_option)


def test_duplicates_are_dropped_and_order_does_not_count():
    assert detect(evaluator(), [3, 0, 2, 1, 0, 1]).evaluate() == detect(evaluator()).evaluate()


def test_missing_image_is_an_error():
    with pytest.raises(InputError, match="'b'.*not scored"):
        detect(evaluator(), [0, 2, 3]).evaluate()


def test_detection_that_is_not_finite_is_an_error():
    with pytest.raises(InputError, match="'a'.*not finite"):
        evaluator().process([RECORDS[0]], [instances((CAT, BOX, float("nan")))])


def test_unknown_rule_is_an_error():
    with pytest.raises(InputError, match="voc_ap"):
        evaluator(voc_ap="voc10")


@pytest.mark.parametrize("options", [{"box_classes": []}, {"records": [{"image_id": "a", "labels": [0]}]}])
def test_data_set_without_boxes_is_not_evaluated(options, caplog, tmp_path):
    with caplog.at_level(logging.INFO, logger="mlickd.evaluation"):
        without = evaluator(output_dir=str(tmp_path), **options)
    assert "has no boxes" in caplog.text
    without.process([RECORDS[0]], [{"image_scores": torch.rand(4)}])  # needs no instances
    assert without.evaluate() == {}
    assert list(tmp_path.iterdir()) == []


def test_report_and_warnings(tmp_path, caplog):
    global_results = None
    with caplog.at_level(logging.INFO, logger="mlickd.evaluation"):
        scored = evaluator(output_dir=str(tmp_path))
        for image in range(4):
            scored.process([RECORDS[image]], [OUTPUTS[image] if image != 1 else instances((CAT, BOX, 0.5))])
        global_results = scored.evaluate()["detection"]
    report = json.loads((tmp_path / "detection_results.json").read_text())
    assert report["metrics"] == pytest.approx(global_results)
    assert list(report["per_class"]) == ["cat", "dog", "bird"]
    assert report["per_class"]["bird"]["AP50"] is None
    assert report["per_class"]["dog"] == {
        "AP50": 0.0,
        "VOC_AP": 0.0,
        "CorLoc": 0.0,
        "positive_images": 1,
        "positive_images_without_region": 1,
    }
    assert report["protocol"]["images"] == 3 and report["protocol"]["images_without_annotations"] == 1
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert any("bird" in w for w in warnings) and any("1 of 3 positive" in w for w in warnings)
