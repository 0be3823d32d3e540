from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mlickd.data.catalog import available_datasets, class_names, dataset_records, ensure_registered
from mlickd.data.sources.coco import COCO_PROTOCOLS, load_coco_multilabel, register_coco_multilabel
from mlickd.errors import InputError


def _content() -> dict:
    return {
        "categories": [{"id": 44, "name": "bottle"}, {"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
        "images": [{"id": 100 + i, "file_name": f"{i}.jpg", "width": 40, "height": 30} for i in range(3)],
        "annotations": [
            {"id": 1, "image_id": 100, "category_id": 44, "bbox": [0, 0, 10, 10], "iscrowd": 0},
            {"id": 2, "image_id": 100, "category_id": 1, "bbox": [5, 5, 30, 20], "iscrowd": 0},
            {"id": 3, "image_id": 100, "category_id": 1, "bbox": [0, 5, 30, 20], "iscrowd": 0},
            {"id": 4, "image_id": 101, "category_id": 18, "bbox": [0, 5, 30, 20], "iscrowd": 1},
        ],
    }


def _write(directory: Path, content: dict) -> Path:
    (directory / "photos").mkdir(exist_ok=True)
    for i in range(3):
        Image.new("RGB", (40, 30)).save(directory / "photos" / f"{i}.jpg")
    path = directory / "boxes.json"
    path.write_text(json.dumps(content))
    return path


def test_classes_are_in_category_id_order(tmp_path):
    dataset = load_coco_multilabel(_write(tmp_path, _content()), tmp_path / "photos")
    assert dataset.class_names == ["person", "dog", "bottle"]
    assert [record["labels"] for record in dataset.records] == [[0, 2], [1], []]
    assert [record["image_id"] for record in dataset.records] == [100, 101, 102]
    assert [len(record["annotations"]) for record in dataset.records] == [3, 1, 0]
    assert dataset.box_classes == [0, 1, 2]


OUTLINES = [[[1.5, 2, 3e1, -4.25, 5, 6]], [], [[1, 2, 3, 4], [5, 6]], {"counts": [1, 2, 3], "size": [30, 40]}, None]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("outline", OUTLINES)
def test_outlines_of_objects_change_nothing(tmp_path, outline, place, indent):
    plain = load_coco_multilabel(_write(tmp_path, _content()), tmp_path / "photos")
    content = _content()
    content["info"] = {"description": 'a "segmentation": [[1, 2]] in a text', "segmentation": "other"}
    content["annotations"] = [
        {"segmentation": outline, **box} if place == "first" else {**box, "segmentation": outline}
        for box in content["annotations"]
    ]
    path = _write(tmp_path, content)
    path.write_text(json.dumps(content, indent=indent), encoding="utf-8-sig")
    assert load_coco_multilabel(path, tmp_path / "photos") == plain


@pytest.mark.parametrize(
    ("crowd_labels", "keep_unlabeled", "expected"),
    [
        (True, True, {100: [0, 2], 101: [1], 102: []}),
        (True, False, {100: [0, 2], 101: [1]}),
        (False, True, {100: [0, 2], 101: [], 102: []}),
        (False, False, {100: [0, 2]}),
    ],
)
def test_protocols(tmp_path, crowd_labels, keep_unlabeled, expected):
    dataset = load_coco_multilabel(
        _write(tmp_path, _content()),
        tmp_path / "photos",
        crowd_labels=crowd_labels,
        keep_unlabeled=keep_unlabeled,
    )
    assert {record["image_id"]: record["labels"] for record in dataset.records} == expected


def test_a_box_without_area_is_left_out_with_a_warning_but_labels(tmp_path, caplog):
    content = _content()
    content["annotations"][3]["bbox"] = [0, 5, 30, 0]
    with caplog.at_level(logging.WARNING):
        dataset = load_coco_multilabel(_write(tmp_path, content), tmp_path / "photos")
    assert "annotation 4 of image 101" in caplog.text
    assert dataset.records[1]["labels"] == [1] and dataset.records[1]["annotations"] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"][0].update(file_name="9.jpg"), r"photos/9\.jpg: image file not found, but .*boxes\.json"),
        (
            lambda c: c["images"][0].update(file_name="../photos/0.jpg"),
            r"boxes\.json: image 100: .* is not inside .*photos/",
        ),
        (
            lambda c: c["images"][0].update(file_name="/0.jpg"),
            r"boxes\.json: image 100: file name '/0\.jpg' is not inside",
        ),
        (lambda c: c["images"][1].update(file_name="./0.jpg"), r"image 101: '0\.jpg' is also image 100; merge"),
        (lambda c: c["images"][1].update(file_name=None), r"boxes\.json: not in COCO format: .*images\[1\]\.file_name"),
        (lambda c: c["categories"][0].update(name="dog"), r"boxes\.json: name 'dog' occurs twice in 'categories'"),
        (lambda c: c["categories"][0].update(id="1"), r"boxes\.json: not in COCO format"),
        (lambda c: c["images"][0].pop("width"), r"boxes\.json: image 100: 'height' and 'width'"),
        (lambda c: c["images"][0].update(id=101), r"boxes\.json: id 101 occurs twice in 'images'"),
        (lambda c: c["categories"][0].update(id=1), r"boxes\.json: id 1 occurs twice in 'categories'"),
        (lambda c: c["annotations"][0].update(bbox=[0, 0, 50, 5]), r"boxes\.json: annotation 1 of image 100: .*leaves"),
        (lambda c: c["annotations"][0].pop("category_id"), r"boxes\.json: not in COCO format: .*'category_id'"),
    ],
)
def test_bad_input_names_the_file(tmp_path, change, message):
    content = _content()
    change(content)
    with pytest.raises(InputError, match=message):
        load_coco_multilabel(_write(tmp_path, content), tmp_path / "photos")


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_json_in_another_encoding_is_named(tmp_path, encoding):
    content = _content()
    content["categories"][0]["name"] = "caf\u00e9"
    path = _write(tmp_path, content)
    path.write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    with pytest.raises(InputError, match=r"boxes\.json: not a readable JSON file"):
        load_coco_multilabel(path, tmp_path / "photos")


def test_json_cut_in_half_is_named(tmp_path):
    path = _write(tmp_path, _content())
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=r"boxes\.json: not a readable JSON file"):
        load_coco_multilabel(path, tmp_path / "photos")


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path):
    path = _write(tmp_path, _content())
    expected = load_coco_multilabel(path, tmp_path / "photos")
    path.write_bytes(("\ufeff" + json.dumps(_content(), indent=1).replace("\n", "\r\n")).encode())
    assert load_coco_multilabel(path, tmp_path / "photos") == expected


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"photos: image folder of .*boxes\.json not found"):
        load_coco_multilabel(tmp_path / "boxes.json", tmp_path / "photos")
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match=r"boxes\.json: annotation file not found"):
        load_coco_multilabel(tmp_path / "boxes.json", tmp_path / "photos")


def test_coco_by_its_official_layout(tmp_path, monkeypatch):
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    _write(tmp_path, _content()).rename(tmp_path / "coco" / "annotations" / "instances_val2014.json")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert not any(name.startswith("coco_2014_val_multi") for name in available_datasets())
    with pytest.raises(InputError, match=r"coco/val2014: image folder of .*instances_val2014\.json not found"):
        ensure_registered("coco_2014_val_multilabel")
    (tmp_path / "photos").rename(tmp_path / "coco" / "val2014")
    names = [f"coco_2014_val_multilabel{end}" for end in COCO_PROTOCOLS]
    assert [name for name in available_datasets() if "multilabel" in name] == sorted(names)
    try:
        ids = {name: [record["image_id"] for record in dataset_records(name)] for name in names}
        assert MetadataCatalog.get(names[1]).image_root == str(tmp_path / "coco" / "val2014")
        assert [record["labels"] for record in dataset_records(names[2])] == [[0, 2], [], []]
    finally:
        for name in names:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
    assert list(ids.values()) == [[100, 101, 102], [100, 101], [100, 101, 102], [100]]


@pytest.fixture
def registered(tmp_path):
    name = "my_coco_photos"
    register_coco_multilabel(name, _write(tmp_path, _content()), tmp_path / "photos", crowd_labels=False)
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_registered_by_name(registered):
    ensure_registered(registered)
    metadata = MetadataCatalog.get(registered)
    assert metadata.thing_classes == class_names(registered) == ["person", "dog", "bottle"]
    assert metadata.box_classes == [0, 1, 2] and metadata.evaluator_type == "multilabel"
    assert [record["labels"] for record in dataset_records(registered)] == [[0, 2], [], []]


def test_nothing_is_read_when_registering(tmp_path):
    register_coco_multilabel("absent_coco", tmp_path / "absent.json", tmp_path / "absent")
    try:
        with pytest.raises(InputError, match="absent: image folder"):
            dataset_records("absent_coco")
    finally:
        DatasetCatalog.remove("absent_coco")
        MetadataCatalog.remove("absent_coco")


def test_iscrowd_may_be_null_but_not_text(tmp_path):
    content = _content()
    content["annotations"][0]["iscrowd"] = None
    dataset = load_coco_multilabel(_write(tmp_path, content), tmp_path / "photos")
    assert dataset.records[0]["annotations"][0]["iscrowd"] == 0
    content["annotations"][0]["iscrowd"] = "no"
    with pytest.raises(InputError, match="annotation 1 of image 100: 'iscrowd' 'no' is neither 0 nor 1"):
        load_coco_multilabel(_write(tmp_path, content), tmp_path / "photos")
