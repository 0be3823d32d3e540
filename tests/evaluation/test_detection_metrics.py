"""Detection metrics against the loop of the VOC devkit and values by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.metric_problems import annotation, slow_iou
from mlickd.evaluation import coco_average_precision, corloc, voc_detection_average_precision

BOX = [0.0, 0.0, 10.0, 10.0]
HALF = [0.0, 0.0, 10.0, 5.0]  # IoU with BOX: exactly 0.5
FAR = [50.0, 50.0, 60.0, 60.0]


def found(*scored):
    """Return {image: (boxes, scores)} from (image, box, score)."""
    groups = {i: [d for d in scored if d[0] == i] for i, _, _ in scored}
    return {i: (np.array([d[1] for d in group]), np.array([d[2] for d in group])) for i, group in groups.items()}


def truth(*objects):
    """Return {image: (boxes, ignored)} from (image, box) or (image, box, ignored)."""
    return found(*((*o, False)[:3] for o in objects))


def slow_voc_ap(scored, objects):
    """Return the AP by the devkit's loop, detection by detection; scores must be distinct."""
    positives, taken, outcomes = sum(not o[2] for o in objects), set(), []
    for image, box, _ in sorted(scored, key=lambda d: -d[2]):
        overlaps = [(slow_iou(box, o[1]), -k) for k, o in enumerate(objects) if o[0] == image]
        overlap, index = max(overlaps, default=(0, 0))
        if overlap >= 0.5 and objects[-index][2]:
            continue
        outcomes.append(overlap >= 0.5 and -index not in taken)
        if outcomes[-1]:
            taken.add(-index)
    if not positives:
        return math.nan
    recall = np.cumsum(outcomes) / positives
    precision = np.cumsum(outcomes) / np.arange(1, len(outcomes) + 1)
    steps = np.diff(recall, prepend=0.0)
    return float(sum(step * precision[k:].max() for k, step in enumerate(steps)))


coordinates = st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 6), st.integers(1, 6))
boxes = coordinates.map(lambda c: [float(c[0]), float(c[1]), float(c[0] + c[2]), float(c[1] + c[3])])
truths = st.lists(st.tuples(st.integers(0, 2), boxes, st.booleans()), max_size=8)
detected = st.lists(st.tuples(st.integers(0, 2), boxes, st.integers(0, 99)), max_size=12)


@given(detected.filter(lambda found: len({d[2] for d in found}) == len(found)), truths)
@settings(max_examples=40)
def test_voc_average_precision_agrees_with_the_devkit(scored, objects):
    got = voc_detection_average_precision(found(*scored), truth(*objects))
    assert got == pytest.approx(slow_voc_ap(scored, objects), nan_ok=True)


def test_equal_scores_enter_together():
    tied = found(("a", BOX, 0.5), ("a", FAR, 0.5))
    assert voc_detection_average_precision(tied, truth(("a", BOX))) == 0.5


def test_corloc_by_hand():
    scored = found(("a", HALF, 1e-9), ("a", FAR, 1e-10), ("b", FAR, 0.9), ("b", BOX, 0.8), ("d", BOX, 1.0))
    # a: its best region is correct; b: it is false; c: no region; d: only an ignored object, so not a positive image.
    objects = truth(("a", BOX), ("b", BOX), ("c", BOX), ("d", BOX, True))
    assert corloc(scored, objects) == pytest.approx(1 / 3)
    tied = found(("a", BOX, 0.5), ("a", FAR, 0.5), ("a", FAR, 0.5), ("a", BOX, 0.1))
    assert corloc(tied, truth(("a", BOX))) == pytest.approx(1 / 3)


@pytest.mark.parametrize("metric", [voc_detection_average_precision, corloc])
def test_no_detections_score_0_and_no_objects_nan(metric):
    assert metric({}, truth(("a", BOX))) == 0.0
    assert math.isnan(metric(found(("a", BOX, 1.0)), {}))
    assert math.isnan(metric(found(("a", BOX, 1.0)), truth(("a", BOX, True))))


def test_coco_average_precision_by_hand(capsys):
    records = [
        {"image_id": "a", "annotations": [annotation(BOX), annotation(FAR, 1)]},
        {"image_id": "b", "annotations": [annotation(BOX)]},
        {"image_id": "c", "annotations": []},
    ]
    detections = {
        0: found(("a", HALF, 3e-9), ("c", FAR, 2e-9), ("b", BOX, 1e-9)),
        1: found(("a", BOX, 1.0)),
        2: found(("a", BOX, 1.0)),
    }
    got = coco_average_precision(records, detections)
    assert got[0] == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)
    assert got[1] == 0.0
    assert math.isnan(got[2])
    assert coco_average_precision(records, {0: {}}) == {0: 0.0}
    assert capsys.readouterr().out == "", "pycocotools prints nothing"


@pytest.mark.parametrize(("flag", "small_box"), [("difficult", 0.5), ("iscrowd", 1.0)])
def test_coco_average_precision_ignores_crowds_and_difficult_objects(flag, small_box):
    records = [{"image_id": "a", "annotations": [annotation(BOX, **{flag: 1}), annotation(FAR)]}]
    assert coco_average_precision(records, {0: found(("a", BOX, 0.9), ("a", FAR, 0.8))}) == {0: pytest.approx(1.0)}
    # A small box in a crowd is ignored, in a difficult object it is false.
    in_object = found(("a", [0.0, 0.0, 3.0, 3.0], 0.9), ("a", FAR, 0.8))
    assert coco_average_precision(records, {0: in_object}) == {0: pytest.approx(small_box)}
    records[0]["annotations"].pop()
    assert math.isnan(coco_average_precision(records, {0: found(("a", BOX, 0.9))})[0])
