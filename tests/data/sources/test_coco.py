import json
import logging
from pathlib import Path

import pytest
from detectron2.data.datasets import register_coco_instances
from PIL import Image

from mlickd.data.catalog import available_datasets, class_names, dataset_records, ensure_registered
from mlickd.data.records import PackedRecords
from mlickd.data.sources.coco import load_coco_multilabel
from mlickd.errors import InputError


def content() -> dict:
    return {
        "categories": [{"id": 44, "name": "bottle"}, {"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
        "images": [{"id": 100 + i, "file_name": f"{i}.jpg", "width": 40, "height": 30} for i in range(3)],
        "annotations": [
            {"id": 1, "image_id": 100, "category_id": 44, "bbox": [0, 0, 10, 10], "iscrowd": None},
            {"id": 4, "image_id": 101, "category_id": 18, "bbox": [0, 5, 30, 20], "iscrowd": 1},
            {"id": 2, "image_id": 100, "category_id": 1, "bbox": [5, 5, 30, 20], "iscrowd": 0},
            {"id": 3, "image_id": 100, "category_id": 1, "bbox": [0, 5, 30, 20]},
        ],
    }


def write(folder: Path, changed: dict | None = None) -> Path:
    (folder / "photos").mkdir(exist_ok=True)
    for i in range(3):
        Image.new("RGB", (40, 30)).save(folder / "photos" / f"{i}.jpg")
    path = folder / "boxes.json"
    path.write_text(json.dumps(changed or content()))
    return path


def load(folder: Path, changed: dict | None = None, **protocol: bool) -> PackedRecords:
    return load_coco_multilabel(write(folder, changed), folder / "photos", **protocol).records


def test_records_have_labels_ids_and_boxes(tmp_path):
    dataset = load_coco_multilabel(write(tmp_path), tmp_path / "photos")
    assert dataset.class_names == ["person", "dog", "bottle"], "sorted by id"
    assert [record["labels"] for record in dataset.records] == [[0, 2], [1], []]
    assert [record["image_id"] for record in dataset.records] == [100, 101, 102]
    boxes = [[(*box["bbox"], box["category_id"]) for box in record["annotations"]] for record in dataset.records]
    assert boxes == [[(0, 0, 10, 10, 2), (5, 5, 35, 25, 0), (0, 5, 30, 25, 0)], [(0, 5, 30, 25, 1)], []]
    assert [box["iscrowd"] for record in dataset.records for box in record["annotations"]] == [0, 0, 0, 1]
    changed = content()
    changed["categories"][0]["name"] = "person"
    dataset = load_coco_multilabel(write(tmp_path, changed), tmp_path / "photos")
    assert dataset.class_names == ["person", "dog"], "categories of one name are one class"
    assert [record["labels"] for record in dataset.records] == [[0], [1], []]


def test_files_of_other_programs_are_read(tmp_path):
    expected = load(tmp_path)
    changed = content()
    changed["info"] = {"description": 'a "segmentation": [[1, 2]] in a text', "segmentation": "other"}
    for outline in ([[1.5, 2, 3e1, -4.25, 5, 6]], {"counts": [1, 2, 3], "size": [30, 40]}, None):
        changed["annotations"] = [{"segmentation": outline, **box} for box in content()["annotations"]]
        path = write(tmp_path)
        path.write_bytes(("\ufeff" + json.dumps(changed, indent=1).replace("\n", "\r\n")).encode())
        assert load_coco_multilabel(path, tmp_path / "photos").records == expected
    for image in changed["images"]:  # sizes are read from the files
        del image["width"]
    assert load(tmp_path, changed) == expected


def test_a_box_without_area_gives_a_label_and_a_warning(tmp_path, caplog):
    changed = content()
    changed["annotations"][1]["bbox"] = [0, 5, 30, 0]
    with caplog.at_level(logging.WARNING):
        records = load(tmp_path, changed)
    assert "boxes.json: image 101: " in caplog.text and len(caplog.records) == 1
    assert records[1]["labels"] == [1] and records[1]["annotations"] == []


BAD = {
    "missing image": (lambda c: c["images"][0].update(file_name="9.jpg"), r"photos/9\.jpg"),
    "outside": (lambda c: c["images"][0].update(file_name="../photos/0.jpg"), r"boxes\.json: image 100: "),
    "image twice": (lambda c: c["images"][0].update(file_name="1.jpg"), r"boxes\.json: .*'1\.jpg'"),
    "3 numbers": (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), r"boxes\.json: .*annotations\[0\]\.bbox"),
    "unknown image": (lambda c: c["annotations"][0].update(image_id=7), r"boxes\.json: "),
    "inverted": (lambda c: c["annotations"][0].update(bbox=[9, 9, -5, 4]), r"boxes\.json: image 100: .*9, 9, -5, 4"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_bad_content_is_named(tmp_path, change, message):
    changed = content()
    change(changed)
    with pytest.raises(InputError, match=message):
        load(tmp_path, changed)


def test_the_official_layout_of_coco_is_found(tmp_path, monkeypatch, catalogs):
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    write(tmp_path).rename(tmp_path / "coco" / "annotations" / "instances_val2014.json")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert not any(name.startswith("coco_2014_val_multi") for name in available_datasets())
    with pytest.raises(InputError, match=r"instances_val2014\.json: .*coco/val2014/0\.jpg: "):
        ensure_registered("coco_2014_val_multilabel")
    (tmp_path / "photos").rename(tmp_path / "coco" / "val2014")
    names = [f"coco_2014_val_multilabel{ending}" for ending in ("", "_labeled", "_no_crowd", "_labeled_no_crowd")]
    assert [name for name in available_datasets() if "multilabel" in name] == sorted(names)
    labels = [{record["image_id"]: record["labels"] for record in dataset_records(name)} for name in names]
    assert labels[:2] == [{100: [0, 2], 101: [1], 102: []}, {100: [0, 2], 101: [1]}]
    assert labels[2:] == [{100: [0, 2], 101: [], 102: []}, {100: [0, 2]}]


def test_a_dataset_that_detectron2_registers_is_multi_label(tmp_path, catalogs):
    file = content()
    file["annotations"][0]["iscrowd"] = 0  # Detectron2 keeps None
    register_coco_instances("mine", {}, write(tmp_path, file), tmp_path / "photos")
    assert class_names("mine") == ["person", "dog", "bottle"]
    assert [record["labels"] for record in dataset_records("mine")] == [[0, 2], [1], []]
