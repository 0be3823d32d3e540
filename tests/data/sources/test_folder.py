from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from detectron2.structures import BoxMode
from PIL import Image

from mlickd.data.records import label_targets
from mlickd.data.sources.folder import folder_source, folder_splits, load_folder_dataset
from mlickd.errors import InputError

CLASSES = "dog\ncat\npotted plant\n"
LABELS = "file_name,labels\na.jpg,cat;dog\nsub/b.png,\n"


def _boxes() -> dict:
    return {
        "categories": [{"id": 9, "name": "cat"}, {"id": 4, "name": "potted plant"}, {"id": 5, "name": "unused"}],
        "images": [
            {"id": 1, "file_name": "a.jpg", "width": 40, "height": 30},
            {"id": 2, "file_name": "sub/b.png", "width": 20, "height": 10},
        ],
        "annotations": [{"id": 7, "image_id": 1, "category_id": 9, "bbox": [4, 5, 10.5, 8], "iscrowd": 1}],
    }


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A right folder dataset of two images, with boxes of one class."""
    directory = tmp_path / "pets"
    (directory / "images" / "sub").mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(directory / "images" / "a.jpg")
    Image.new("RGB", (20, 10)).save(directory / "images" / "sub" / "b.png")
    (directory / "classes.txt").write_text(CLASSES)
    (directory / "labels_train.csv").write_text(LABELS)
    (directory / "instances_train.json").write_text(json.dumps(_boxes()))
    return directory


def test_records_follow_the_contract(pets):
    dataset = load_folder_dataset(pets, "train")
    assert dataset.class_names == ["dog", "cat", "potted plant"]
    assert dataset.box_classes == [1]
    assert dataset.image_root == str(pets / "images")
    box = {"bbox": [4.0, 5.0, 14.5, 13.0], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1}
    box |= {"iscrowd": 1, "difficult": 0}
    assert dataset.records == [
        {
            "file_name": str(pets / "images" / "a.jpg"),
            "height": 30,
            "width": 40,
            "image_id": "a.jpg",
            "labels": [0, 1],
            "annotations": [box],
        },
        {
            "file_name": str(pets / "images" / "sub" / "b.png"),
            "height": 10,
            "width": 20,
            "image_id": "sub/b.png",
            "labels": [],
            "annotations": [],
        },
    ]


def test_boxes_are_optional(pets):
    (pets / "instances_train.json").unlink()
    dataset = load_folder_dataset(pets, "train")
    assert dataset.box_classes == []
    assert not any("annotations" in record for record in dataset.records)


def test_splits_are_the_label_tables(pets):
    (pets / "labels_my_val.csv").write_text(LABELS)
    assert folder_splits(pets) == ["my_val", "train"]


@pytest.mark.parametrize(
    "table",
    [
        "\ufefffile_name,labels\r\na.jpg,cat;dog\r\n\r\nsub/b.png,\r\n",
        "\n\nfile_name , labels\n  a.jpg , dog ; cat;;dog\n,\n./sub//b.png,",
        '"file_name","labels"\n"a.jpg","cat;dog"\n"sub/b.png",""\n',
    ],
    ids=["bom and windows line ends", "blanks everywhere", "quoted"],
)
def test_tables_as_other_programs_write_them(pets, table):
    expected = load_folder_dataset(pets, "train")
    (pets / "labels_train.csv").write_bytes(table.encode())
    (pets / "classes.txt").write_bytes(("\ufeff" + CLASSES.replace("\n", "\r\n\r\n")).encode())
    assert load_folder_dataset(pets, "train") == expected


@pytest.mark.parametrize(
    "table",
    [
        "file_name,dog,cat,potted plant\na.jpg,1,1,0\nsub/b.png,0,-1,0\n",
        '\ufeff"file_name","potted plant","cat","dog"\r\n\r\na.jpg,0.0,1.0,1.0\r\nsub/b.png,0.0,-1.0,0.0',
    ],
    ids=["in the order of the classes", "another order, as pandas writes it"],
)
def test_a_column_for_each_class(pets, table):
    (pets / "labels_train.csv").write_bytes(table.encode())
    records = load_folder_dataset(pets, "train").records
    assert [record["labels"] for record in records] == [[0, 1], []]
    assert "ignored_labels" not in records[0] and records[1]["ignored_labels"] == [1]
    assert label_targets(records, 3).tolist() == [[1, 1, 0], [0, -1, 0]]


def test_without_classes_and_table_the_boxes_are_the_labels(pets):
    assert folder_splits(pets) == ["train"]
    (pets / "labels_train.csv").unlink()
    # A class list says that tables are meant, and that one is missing.
    assert folder_splits(pets) == [] and not folder_source(pets, "train").is_here()
    (pets / "classes.txt").unlink()
    assert folder_splits(pets) == ["train"] and folder_source(pets, "train").is_here()
    dataset = folder_source(pets, "train").load()
    assert dataset.class_names == ["potted plant", "unused", "cat"]
    assert [(record["image_id"], record["labels"]) for record in dataset.records] == [(1, [2]), (2, [])]


def test_unusual_names(pets):
    names = ["a b.jpg", "it's.jpg", 'say "no".jpg', "K\u00f6nig/\u732b.jpg", "a,b.jpg"]
    for name in names:
        (pets / "images" / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 6)).save(pets / "images" / name)
    with (pets / "labels_train.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file_name", "labels"), *((name, "cat") for name in names)])
    (pets / "instances_train.json").unlink()
    assert [record["image_id"] for record in load_folder_dataset(pets, "train").records] == names


def _table(text: str) -> Callable[[Path], object]:
    return lambda pets: (pets / "labels_train.csv").write_text(text)


def _classes(text: str) -> Callable[[Path], object]:
    return lambda pets: (pets / "classes.txt").write_text(text)


def _json(change: Callable[[dict], object]) -> Callable[[Path], object]:
    def write(pets: Path) -> None:
        content = _boxes()
        change(content)
        (pets / "instances_train.json").write_text(json.dumps(content))

    return write


def _box(*box: float) -> Callable[[Path], object]:
    return _json(lambda content: content["annotations"][0].update(bbox=list(box)))


BAD_INPUTS = {
    "no image folder": (lambda p: (p / "images").rename(p / "img"), "images: image folder of"),
    "no classes": (lambda p: (p / "classes.txt").unlink(), "classes.txt: file not found"),
    "empty classes": (_classes("\n\n"), "classes.txt: no class"),
    "class twice": (_classes("dog\ncat\ndog\n"), "classes.txt: line 3: class 'dog' is also in line 1"),
    "class with a semicolon": (_classes("dog;cat\n"), "classes.txt: line 1: class 'dog;cat'"),
    "classes not utf-8": (lambda p: (p / "classes.txt").write_bytes(b"caf\xe9\n"), "classes.txt: not UTF-8"),
    "no table": (lambda p: (p / "labels_train.csv").unlink(), "labels_train.csv: file not found"),
    "empty table": (_table(""), "labels_train.csv: line 1: the header is ''"),
    "bad header": (_table("\nname;labels\na.jpg,cat\n"), "labels_train.csv: line 2: the header is 'name;labels'"),
    "empty split": (_table("file_name,labels\n\n"), "labels_train.csv: the split is empty"),
    "unknown label": (_table(LABELS + "c.jpg,cow\n"), "labels_train.csv: line 4: label 'cow' is not in"),
    "labels joined by commas": (_table("file_name,labels\na.jpg,cat,dog\n"), "labels_train.csv: line 2: 3 fields"),
    "no labels field": (_table("file_name,labels\na.jpg\n"), "labels_train.csv: line 2: 1 fields"),
    "table cut in half": (_table(LABELS[: LABELS.index("png")]), "labels_train.csv: line 3: 1 fields where 2"),
    "table not utf-8": (
        lambda p: (p / "labels_train.csv").write_bytes(LABELS.encode("utf-16")),
        "labels_train.csv: not UTF-8 text",
    ),
    "column of no class": (
        _table("file_name,dog,cow,cat,potted plant\n"),
        "labels_train.csv: line 1: column 'cow' is not a class",
    ),
    "class with two columns": (
        _table("file_name,dog,cat,dog,potted plant\n"),
        "labels_train.csv: line 1: class 'dog' has two columns",
    ),
    "class without a column": (_table("file_name,dog,cat\n"), "the header is 'file_name,dog,cat'; write"),
    "empty cell": (
        _table("file_name,dog,cat,potted plant\na.jpg,1,,0\n"),
        "labels_train.csv: line 2: '' for class 'cat'; write 1 (there), 0 (not there) or -1 (unknown)",
    ),
    "no truth value": (_table("file_name,dog,cat,potted plant\na.jpg,yes,0,0\n"), "line 2: 'yes' for class 'dog'"),
    "cells missing": (_table("file_name,dog,cat,potted plant\na.jpg,1\n"), "line 2: 2 fields where 4 are due"),
    "duplicate image": (_table(LABELS + "a.jpg,cat\n"), "labels_train.csv: line 4: duplicate image id 'a.jpg'"),
    "same file spelt otherwise": (_table(LABELS + "./a.jpg,\n"), "line 4: duplicate image id 'a.jpg', which is also"),
    "missing image": (_table(LABELS + "c.jpg,cat\n"), "images/c.jpg: image file not found"),
    "folder for an image": (_table(LABELS + "sub,cat\n"), "images/sub: a folder, but"),
    "unreadable image": (lambda p: (p / "images/a.jpg").write_text("?"), "images/a.jpg: not a readable image"),
    "outside images": (_table("file_name,labels\n../a.jpg,cat\n"), "line 2: file name '../a.jpg' is not inside"),
    "outside, hidden": (_table("file_name,labels\nsub/../../x,\n"), "line 2: file name 'sub/../../x' is not inside"),
    "absolute": (_table("file_name,labels\n/etc/passwd,cat\n"), "line 2: file name '/etc/passwd' is not inside"),
    "drive": (_table("file_name,labels\nC:\\a.jpg,cat\n"), "line 2: file name 'C:\\\\a.jpg' is not inside"),
    "no file name": (_table("file_name,labels\n,cat\n"), "labels_train.csv: line 2: file name '' is not inside"),
    "json cut in half": (
        lambda p: (p / "instances_train.json").write_text(json.dumps(_boxes())[:200]),
        "instances_train.json: not a readable JSON file",
    ),
    "json nested too deep": (
        lambda p: (p / "instances_train.json").write_text('{"info": ' + "[" * 200000),
        "instances_train.json: not a readable JSON file",
    ),
    "json damaged": (lambda p: (p / "instances_train.json").write_text("{"), "instances_train.json: not a readable"),
    "json a list": (lambda p: (p / "instances_train.json").write_text("[]"), "instances_train.json: not in COCO"),
    "json without images": (
        _json(lambda c: c.pop("images")),
        "instances_train.json: not in COCO format: Object missing required field 'images'",
    ),
    "json of other images": (
        _json(lambda c: [image.update(file_name="x/" + image["file_name"]) for image in c["images"]]),
        "instances_train.json: no image of this split",
    ),
    "image twice in json": (
        _json(lambda c: c["images"][1].update(file_name="a.jpg", width=40, height=30)),
        "instances_train.json: image 'a.jpg' is listed twice",
    ),
    "other size in json": (
        _json(lambda c: c["images"][0].update(width=30, height=40)),
        "instances_train.json: image 'a.jpg' is 30x40 pixels here, but its file is 40x30",
    ),
    "unknown category in use": (
        _json(lambda c: c["categories"][0].update(name="Cat")),
        "instances_train.json: category 'Cat' is not in",
    ),
    "annotation of no image": (
        _json(lambda c: c["annotations"][0].update(image_id=3)),
        "instances_train.json: annotation 7 of image 3: image 3 is not in 'images'",
    ),
    "annotation of no category": (
        _json(lambda c: c["annotations"][0].update(category_id=1)),
        "instances_train.json: annotation 7 of image 1: category 1 is not in 'categories'",
    ),
    "box of 3 numbers": (_box(1, 2, 3), "instances_train.json: annotation 7 of image 1: 'bbox' [1, 2, 3]"),
    "box with a NaN": (_box(1, 2, float("nan"), 4), "annotation 7 of image 1: 'bbox' [1, 2, nan, 4] is not finite"),
    "inverted box": (_box(20, 20, -5, 4), "annotation 7 of image 1: 'bbox' [20, 20, -5, 4] has a negative size"),
    "box of text": (
        _json(lambda c: c["annotations"][0].update(bbox=[1, 2, "3", 4])),
        "instances_train.json: not in COCO format: Expected 'float', got 'str' - at '$.annotations[0].bbox[2]'",
    ),
    "no box": (_json(lambda c: c["annotations"][0].pop("bbox")), "annotation 7 of image 1: 'bbox' None is not a list"),
    "box without area": (_box(20, 20, 5, 0), "annotation 7 of image 1: 'bbox' [20, 20, 5, 0] has no area"),
    "box out of the image": (_box(20, 20, 25, 5), "annotation 7 of image 1: 'bbox' [20, 20, 25, 5] leaves the image"),
}


@pytest.mark.parametrize(("spoil", "message"), BAD_INPUTS.values(), ids=BAD_INPUTS.keys())
def test_bad_input_is_named_in_one_line(pets, spoil, message):
    spoil(pets)
    with pytest.raises(InputError) as caught:
        load_folder_dataset(pets, "train")
    text = str(caught.value)
    assert message in text and str(pets) in text and "\n" not in text


def test_a_box_may_pass_the_border_by_a_rounding(pets):
    _box(-0.5, 10, 41, 20.4)(pets)
    assert load_folder_dataset(pets, "train").records[0]["annotations"][0]["bbox"] == [0.0, 10.0, 40.0, 30.0]


def test_images_that_only_one_file_lists_are_reported(pets, caplog):
    def swap(content: dict) -> None:
        content["images"][1].update(file_name="other.png")

    _json(swap)(pets)
    with caplog.at_level(logging.WARNING):
        records = load_folder_dataset(pets, "train").records
    assert "images that are not in this split: 1, the first is other.png" in caplog.text
    assert "images of this split that it does not list: 1" in caplog.text
    assert "annotations" in records[0] and "annotations" not in records[1]
