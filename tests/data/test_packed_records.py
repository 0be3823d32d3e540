from __future__ import annotations

from pathlib import Path

from mlickd.data import dataset_records
from mlickd.data.packed_records import PackedRecords, without_boxes

BOX = {"bbox": [1.5, 2.0, 3.0, 4.25], "category_id": 1}
RECORDS = [
    {"file_name": "a.jpg", "image_id": 1, "labels": [1], "annotations": [BOX]},
    {"file_name": "b.jpg", "image_id": "b", "labels": [], "annotations": []},
    {"file_name": "c.jpg", "image_id": 3, "labels": [0], "ignored_labels": [1]},
]


def test_what_was_put_in_comes_out():
    packed = PackedRecords(RECORDS)
    assert len(packed) == 3
    assert list(packed) == packed.unpack() == RECORDS
    assert packed.unpack(boxes=False) == [without_boxes(record) for record in RECORDS]
    assert PackedRecords([]).unpack() == []


def test_what_comes_out_can_be_changed_without_harm():
    packed = PackedRecords(RECORDS)
    first = packed.unpack()[0]
    first["labels"].append(7)
    first["annotations"][0]["bbox"][0] = 0.0
    assert packed.unpack() == RECORDS


def test_a_data_set_has_the_same_records_with_and_without_boxes(tiny_scenes: Path):
    whole = dataset_records("tiny_train")
    assert all(record["annotations"] for record in whole)
    assert dataset_records("tiny_train", boxes=False) == [without_boxes(record) for record in whole]
