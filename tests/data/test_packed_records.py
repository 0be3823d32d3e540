from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detectron2.structures import BoxMode

from mlickd.data import dataset_records
from mlickd.data.box_columns import BoxColumns
from mlickd.data.packed_records import PackedRecords, without_boxes

BOX = {"bbox": [1.5, 2.0, 3.0, 4.25], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1, "iscrowd": 0, "difficult": 1}
OTHER = {**BOX, "bbox": [0.1, 0.2, 0.3, 0.7], "category_id": 0, "iscrowd": 1, "difficult": 0}
RECORDS = [
    {"file_name": "a.jpg", "image_id": 1, "labels": [1], "annotations": [BOX]},
    {"file_name": "b.jpg", "image_id": "b", "labels": [], "annotations": []},
    {"file_name": "c.jpg", "image_id": 3, "labels": [0], "ignored_labels": [1]},
    {"file_name": "d.jpg", "image_id": 4, "labels": [0, 1], "annotations": [OTHER, BOX]},
]


def test_what_was_put_in_comes_out():
    packed = PackedRecords(RECORDS)
    assert len(packed) == 4
    assert packed == list(packed) == RECORDS
    assert [packed[index] for index in range(-4, 4)] == RECORDS * 2
    assert packed.without_boxes() == [without_boxes(record) for record in RECORDS]
    assert PackedRecords([]) == PackedRecords([]).without_boxes() == []
    with pytest.raises(IndexError):
        packed[4]


def test_records_that_differ_in_a_box_are_not_equal():
    other = [*RECORDS[:3], {**RECORDS[3], "annotations": [OTHER]}]
    assert PackedRecords(RECORDS) == PackedRecords(RECORDS) != PackedRecords(other)


def test_boxes_may_come_apart_from_their_records():
    boxes = BoxColumns(
        counts=np.array([1, 0, -1, 2]),
        corners=np.array([BOX["bbox"], OTHER["bbox"], BOX["bbox"]]),
        classes=np.array([1, 0, 1]),
        crowd=np.array([False, True, False]),
        difficult=np.array([True, False, True]),
    )
    assert boxes.box_classes() == [0, 1]
    assert PackedRecords([without_boxes(record) for record in RECORDS], boxes) == RECORDS


@pytest.mark.parametrize("indices", [[], [1], [2, 3], [3, 0, 2], [0, 1, 2, 3]])
def test_a_part_has_the_records_asked_for(indices: list[int]):
    part = PackedRecords(RECORDS).part(indices)
    assert part == [RECORDS[index] for index in indices]
    assert part.without_boxes() == [without_boxes(RECORDS[index]) for index in indices]


def test_what_comes_out_can_be_changed_without_harm():
    packed = PackedRecords(RECORDS)
    first = packed[0]
    first["labels"].append(7)
    first["annotations"][0]["bbox"][0] = 0.0
    assert packed == RECORDS


def test_a_data_set_has_the_same_records_with_and_without_boxes(tiny_scenes: Path):
    whole = dataset_records("tiny_train")
    assert all(record["annotations"] for record in whole)
    assert dataset_records("tiny_train", boxes=False) == [without_boxes(record) for record in whole]
