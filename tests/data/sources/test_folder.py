import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from detectron2.structures import BoxMode
from PIL import Image

from mlickd.data.records import label_targets
from mlickd.data.sources.folder import folder_sources, load_folder_dataset
from mlickd.errors import InputError

CLASSES = "dog\ncat\npotted plant\n"
LABELS = "file_name,labels\na.jpg,cat;dog\nsub/b.png,\n"
Damage = Callable[[Path], object]


def instances() -> dict:
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
    """A folder dataset of two images, with boxes of one class."""
    folder = tmp_path / "pets"
    (folder / "images" / "sub").mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(folder / "images" / "a.jpg")
    Image.new("RGB", (20, 10)).save(folder / "images" / "sub" / "b.png")
    (folder / "classes.txt").write_text(CLASSES)
    (folder / "labels_train.csv").write_text(LABELS)
    (folder / "instances_train.json").write_text(json.dumps(instances()))
    return folder


def test_records_have_labels_sizes_and_boxes(pets):
    dataset = load_folder_dataset(pets, "train")
    assert dataset.class_names == ["dog", "cat", "potted plant"]
    box = {"bbox": [4.0, 5.0, 14.5, 13.0], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1}
    box |= {"iscrowd": 1, "difficult": 0}
    first = {"file_name": str(pets / "images" / "a.jpg"), "height": 30, "width": 40, "image_id": "a.jpg"}
    second = {"file_name": str(pets / "images" / "sub" / "b.png"), "height": 10, "width": 20, "image_id": "sub/b.png"}
    assert dataset.records == [
        {**first, "labels": [0, 1], "annotations": [box]},
        {**second, "labels": [], "annotations": []},
    ]
    (pets / "instances_train.json").unlink()
    assert load_folder_dataset(pets, "train").records == [{**first, "labels": [0, 1]}, {**second, "labels": []}]
    for record in first, second:
        Path(record["file_name"]).write_text("not an image")
    with pytest.raises(InputError, match=r"labels_train\.csv: 2 of 2 images .*a\.jpg: .*b\.png: "):
        load_folder_dataset(pets, "train")


def test_tables_of_other_programs_are_read(pets):
    expected = load_folder_dataset(pets, "train")
    text = "\ufeff\r\n\r\nfile_name , labels\r\n  a.jpg , dog ; cat;;dog\r\n,\r\n./sub//../sub/b.png,"
    (pets / "labels_train.csv").write_bytes(text.encode())
    (pets / "classes.txt").write_bytes(("\ufeff" + CLASSES.replace("\n", "\r\n\r\n")).encode())
    assert load_folder_dataset(pets, "train") == expected


def test_a_table_may_have_a_column_for_each_class(pets):
    # pandas writes floats; the order of the columns is free.
    table = '\ufeff"file_name","potted plant","cat","dog"\r\n\r\na.jpg,0.0,1.0,1\r\nsub/b.png,0.0,-1.0,0'
    (pets / "labels_train.csv").write_bytes(table.encode())
    records = load_folder_dataset(pets, "train").records
    assert "ignored_labels" not in records[0] and records[1]["ignored_labels"] == [1]
    assert label_targets(records, 3).tolist() == [[1, 1, 0], [0, -1, 0]]
    (pets / "classes.txt").unlink()
    assert load_folder_dataset(pets, "train").class_names == ["potted plant", "cat", "dog"]
    (pets / "labels_test.csv").write_text("file_name,labels\na.jpg,cow|potted plant\nsub/b.png,potted plant")
    dataset = load_folder_dataset(pets, "test")
    assert dataset.class_names == ["cat", "cow", "dog", "potted plant"]
    assert [record["labels"] for record in dataset.records] == [[1, 3], [3]]
    with pytest.raises(InputError, match="labels_train.csv: line 1: .*'cow' is missing"):
        load_folder_dataset(pets, "train")


def test_a_folder_may_have_only_boxes(pets):
    (pets / "labels_my_val.csv").write_text(LABELS)
    assert list(folder_sources(pets)) == ["my_val", "train"]
    for path in pets.glob("labels_*"):
        path.unlink()
    # A folder with a list of classes needs tables, too.
    assert not folder_sources(pets)
    (pets / "classes.txt").unlink()
    assert list(folder_sources(pets)) == ["train"]
    dataset = folder_sources(pets)["train"].load()
    assert dataset.class_names == ["potted plant", "unused", "cat"]
    assert [(record["image_id"], record["labels"]) for record in dataset.records] == [(1, [2]), (2, [])]


def table(text: str) -> Damage:
    return lambda pets: (pets / "labels_train.csv").write_text(text)


def changed(change: Callable[[dict], object]) -> Damage:
    def write(pets: Path) -> None:
        content = instances()
        change(content)
        (pets / "instances_train.json").write_text(json.dumps(content))

    return write


BAD = {
    "nul": (table(LABELS + "a\0.jpg,\n"), "labels_train.csv"),
    "unclosed quote": (table('file_name,labels\n"' + 140_000 * "a"), "labels_train.csv: line 2: "),
    "class without a column": (table("file_name,dog,cat\n"), "labels_train.csv: line 1: the header is 'file_name, dog"),
    "table cut in half": (table(LABELS[: LABELS.index("png")]), "labels_train.csv: line 3: 1 "),
    "empty cell": (table("file_name,dog,cat,potted plant\na.jpg,1,,0\n"), "line 2: '' for class 'cat'"),
    "image twice": (
        table("file_name,dog,cat,potted plant\na.jpg,1,0,0\n./a.jpg,0,0,0\n"),
        "labels_train.csv: line 3: 'a.jpg'",
    ),
    "no file name": (table("file_name,labels\n,cat\n"), "line 2: file name ''"),
    "absolute path": (table("file_name,labels\n/etc/passwd,cat\n"), "line 2: file name '/etc/passwd'"),
    "json of other images": (changed(lambda c: c.update(images=[], annotations=[])), "instances_train.json: "),
    "one image for two names": (
        changed(lambda c: c["images"][1].update(file_name="old/" + c["images"][0]["file_name"])),
        "instances_train.json: several images",
    ),
    "unknown category": (changed(lambda c: c["categories"][0].update(name="Cat")), "instances_train.json: "),
    "box outside": (
        changed(lambda c: c["annotations"][0].update(bbox=[20, 20, 5, 20])),
        r"instances_train.json: image 1: 'bbox' \[20, 20, 5, 20\]",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_named(pets, spoil, message):
    spoil(pets)
    with pytest.raises(InputError, match=f"^{pets}/.*{message}"):
        load_folder_dataset(pets, "train")


def test_a_class_may_be_written_with_composed_and_decomposed_letters(pets):
    (pets / "classes.txt").write_text(CLASSES.replace("cat", "chat e\u0301gyptien"), encoding="utf-8")
    table(LABELS.replace("cat", "chat e\u0301gyptien"))(pets)
    changed(lambda c: c["categories"][0].update(name="chat \u00e9gyptien"))(pets)
    (record, _) = load_folder_dataset(pets, "train").records
    assert record["labels"] == [0, 1] and record["annotations"][0]["category_id"] == 1


def test_a_box_outside_by_a_rounding_error_is_clipped(pets):
    changed(lambda c: c["annotations"][0].update(bbox=[-0.5, 10, 41, 20.4]))(pets)
    assert load_folder_dataset(pets, "train").records[0]["annotations"][0]["bbox"] == [0.0, 10.0, 40.0, 30.0]


def test_images_that_only_one_file_lists_cause_a_warning(pets, caplog):
    changed(lambda c: c["images"][1].update(file_name="other.png"))(pets)
    with caplog.at_level(logging.WARNING):
        records = load_folder_dataset(pets, "train").records
    assert len(caplog.records) == 2 and caplog.text.count("instances_train.json") == 2
    assert "annotations" in records[0] and "annotations" not in records[1]
    assert (records[1]["height"], records[1]["width"]) == (10, 20), "read from the image"
