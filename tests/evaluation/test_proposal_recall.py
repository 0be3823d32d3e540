"""Recall of proposals, compared with loops over boxes."""

from pathlib import Path

import numpy as np
import pytest
from detectron2.structures import BoxMode
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.metric_problems import annotation as box
from helpers.metric_problems import slow_iou
from mlickd.data import ProposalStore, write_store
from mlickd.evaluation.proposal_recall import ProposalRecall, best_overlaps, evaluate_source, recall_table

corners = st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 15), st.integers(1, 15))
boxes = st.lists(corners, max_size=8).map(
    lambda found: np.array([[x, y, x + w, y + h] for x, y, w, h in found], dtype=np.float32).reshape(-1, 4)
)
COUNTS = (1, 2, 5, 100)


@given(st.lists(st.tuples(boxes, boxes.filter(len)), min_size=1, max_size=4))
@settings(max_examples=40)
def test_recall_agrees_with_loops(images):
    objects = [(proposals, thing) for proposals, things in images for thing in things]
    overlaps = np.concatenate([best_overlaps(proposals, things, COUNTS) for proposals, things in images], axis=1)
    assert overlaps.shape == (len(COUNTS), len(objects))
    thresholds = [0.5, 0.7, 1.0]
    got = ProposalRecall(overlaps, COUNTS, 1, 1.0).recall(*thresholds)
    for k, count in enumerate(COUNTS):
        for t, threshold in enumerate(thresholds):
            found = [any(slow_iou(box, thing) >= threshold for box in box_list[:count]) for box_list, thing in objects]
            assert got[t, k] == pytest.approx(np.mean(found))


def test_crowds_and_difficult_objects_are_left_out(tmp_path: Path):
    records = [
        {"image_id": "a", "annotations": [box([0, 0, 10, 10], mode=BoxMode.XYWH_ABS), box([7, 7, 8, 8], difficult=1)]},
        {"image_id": "b", "annotations": [box([0, 0, 4, 4])]},
        {"image_id": "c", "annotations": [box([0, 0, 4, 4], iscrowd=1)]},
        {"image_id": "d"},
    ]
    proposals = np.array([[9, 9, 10, 10], [0, 0, 10, 6]], dtype=np.float32)
    write_store(tmp_path, [(name, proposals, [1, 0.5]) for name in "abc"], "m", {}, "")
    recall = evaluate_source(records, "ours", ProposalStore(tmp_path), (2, 1, 2))
    assert recall.num_images == 2 and recall.counts == (1, 2)
    np.testing.assert_allclose(recall.overlaps, [[0.01, 0], [0.6, 16 / 60]], atol=1e-7)
    np.testing.assert_array_equal(recall.recall(0.5), [[0, 0.5]])
    np.testing.assert_allclose(recall.table_values()["AR"], [0, 0.5 * 3 / 10])
    assert recall.summary()["proposals"]["2"] == {"recall@0.5": 0.5, "recall@0.7": 0.0, "AR": pytest.approx(0.15)}
    assert "| ours" in recall_table({"ours": recall}) and ".000 / .500" in recall_table({"ours": recall})
