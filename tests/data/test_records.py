"""Records keep their content in packed form, give targets and a digest, and describe new photos."""

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from detectron2.structures import BoxMode
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mlickd.data.records import BOX, PackedRecords, check_records, label_lists, label_targets, labels_digest
from mlickd.data.sources.dataset_files import IMAGE_SUFFIXES
from mlickd.data.user_photos import photo_records
from mlickd.errors import InputError
from mlickd.prediction.photo_report import find_photos
from mlickd.safe_images import _FORMATS

NUM_CLASSES = 5
LABELS = st.lists(st.integers(0, NUM_CLASSES - 1), max_size=4)
FIRST = {"bbox": [1.5, 2.0, 3.0, 4.25], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1, "iscrowd": 0, "difficult": 1}
OTHER = {**FIRST, "bbox": [0.1, 0.2, 0.3, 0.7], "category_id": 0, "iscrowd": 1, "difficult": 0}
RECORDS = [
    {"file_name": "a.jpg", "image_id": 1, "labels": [1], "annotations": [FIRST]},
    {"file_name": "b.jpg", "image_id": "b", "labels": [], "annotations": []},
    {"file_name": "c.jpg", "image_id": 3, "labels": [0], "ignored_labels": [1]},
    {"file_name": "d.jpg", "image_id": 4, "labels": [0, 1], "annotations": [OTHER, FIRST]},
]


def record(image_id: int | str, labels: list[int], **more: object) -> dict:
    return {"file_name": f"photos/{image_id}.jpg", "image_id": image_id, "labels": labels, **more}


@given(st.lists(st.tuples(LABELS, LABELS), max_size=6))
def test_targets_are_1_0_or_ignored(rows):
    records = [record(i, labels, ignored_labels=ignored) for i, (labels, ignored) in enumerate(rows)]
    targets = label_targets(records, NUM_CLASSES)
    assert targets.shape == (len(rows), NUM_CLASSES) and targets.dtype == np.int8
    for row, (labels, ignored) in zip(targets, rows, strict=True):
        assert row.tolist() == [1 if c in labels else -1 if c in ignored else 0 for c in range(NUM_CLASSES)]
    assert label_lists(targets == 1) == [sorted(set(labels)) for labels, _ in rows]


@pytest.mark.parametrize(("field", "label"), [("labels", -1), ("ignored_labels", NUM_CLASSES)])
def test_a_label_out_of_range_is_refused(field, label):
    with pytest.raises(InputError, match=rf"image a: {field}"):
        label_targets([{**record("a", []), field: [label]}], NUM_CLASSES)


def test_packed_records_equal_the_records():
    packed = PackedRecords(RECORDS)
    assert packed == list(packed) == RECORDS and len(packed) == 4
    assert [packed[index] for index in range(-4, 4)] == RECORDS * 2
    unboxed = [{key: each[key] for key in each if key != "annotations"} for each in RECORDS]
    assert packed.without_boxes() == unboxed
    assert PackedRecords([]) == PackedRecords([]).without_boxes() == []
    with pytest.raises(IndexError):
        packed[4]
    assert packed != PackedRecords([*RECORDS[:3], {**RECORDS[3], "annotations": [OTHER]}])
    first, other = (1.5, 2.0, 3.0, 4.25, 1, 0, 1), (0.1, 0.2, 0.3, 0.7, 0, 1, 0)
    boxes = [None if row is None else np.array(row, dtype=BOX) for row in ([first], [], None, [other, first])]
    assert PackedRecords(unboxed, boxes) == RECORDS
    for indices in ([], [1], [3, 0, 2]):
        assert packed.select(indices) == [RECORDS[index] for index in indices]
    packed[0]["annotations"][0]["bbox"][0] = packed[0]["labels"][0] = 7
    assert packed == RECORDS


def test_missing_or_equal_images_and_unused_classes_are_reported(caplog):
    with pytest.raises(InputError, match=r"labels\.csv"):
        check_records([], ["a"], "labels.csv")
    with pytest.raises(InputError, match=r"labels\.csv: image 7: labels"):
        check_records([record(7, [1])], ["a"], "labels.csv")
    with pytest.raises(InputError, match=r"labels\.csv: .*'7'"):
        check_records([record(7, [0]), record("7", [0])], ["a"], "labels.csv")
    with caplog.at_level(logging.WARNING):
        check_records([record(1, [0]), record(2, [1])], ["cat", "dog"], "labels.csv")
        check_records([record(1, []), record(2, [])], ["cat", "dog"], "photos without labels")
        assert not caplog.records
        check_records([record(1, [1], ignored_labels=[2])], ["cat", "dog", "cow"], "labels.csv")
    assert "cat, cow" in caplog.text and "dog" not in caplog.text


LISTED = [
    {"file_name": "/here/b.jpg", "image_id": 'b "\u732b" \udce9\n.jpg', "labels": [1, 0], "ignored_labels": [2, 1]},
    {"file_name": "/here/a.jpg", "image_id": 7, "labels": [], "height": 5, "width": 5, "annotations": []},
]
CLASSES = ["cat", "dog", "cow"]


def test_the_digest_of_labels_covers_only_ids_and_label_names():
    lines = [CLASSES, ["7", [], []], ['b "\u732b" \udce9\n.jpg', ["cat", "dog"], ["cow"]]]
    digest = labels_digest(LISTED, CLASSES)
    assert digest == hashlib.sha256("".join(f"{json.dumps(line)}\n" for line in lines).encode()).hexdigest()
    moved = [{**record, "file_name": "/there/x.jpg", "labels": record["labels"][::-1]} for record in LISTED[::-1]]
    assert labels_digest(moved, CLASSES) == digest
    first, second = LISTED
    for changed in ([first], [first, second | {"labels": [2]}], [first, second | {"image_id": 8}]):
        assert labels_digest(changed, CLASSES) != digest
    assert labels_digest(LISTED, ["dog", "cat", "cow"]) != digest


PHOTOS = ["a ü'.PNG", "b.jpg", "sub/c.jpeg"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for name, size in (("b.jpg", (20, 10)), ("a ü'.PNG", (5, 7)), ("sub/c.jpeg", (8, 8)), (".hidden/d.jpg", (1, 1))):
        Image.new("RGB", size).save(folder / name)
    for name in ("notes.txt", "manual.pdf", "film.mpg", "logo.eps", ".b.jpg"):
        (folder / name).write_text("not an image")
    return folder


def ids(*paths: object, failures: list[str] | None = None) -> list[str]:
    return [record["image_id"] for record in photo_records(paths, [] if failures is None else failures)]


def test_photos_of_a_folder_and_a_single_photo_are_found(photos: Path, tmp_path: Path) -> None:
    assert ids(photos) == PHOTOS and ids(photos / "sub" / "c.jpeg") == ["c.jpeg"]
    record = {"file_name": str(photos / "b.jpg"), "image_id": "b.jpg", "height": 10, "width": 20}
    assert photo_records([photos], [])[1] == record
    (tmp_path / "disk").mkdir()
    Image.new("RGB", (3, 4)).save(tmp_path / "disk" / "e.jpg")
    (photos / "linked").symlink_to(tmp_path / "disk")
    (photos / "sub" / "circle").symlink_to(photos)
    assert ids(photos) == [*PHOTOS[:2], "linked/e.jpg", PHOTOS[2]]


def test_every_suffix_of_a_photo_counts_and_other_files_are_counted(photos: Path, caplog) -> None:
    readable = {suffix for suffix, name in Image.registered_extensions().items() if name in _FORMATS}
    assert readable - {".pfm"} <= IMAGE_SUFFIXES, "32-bit pixels have no known range"
    for name in ("e.jfif", "f.JPE"):
        Image.new("RGB", (8, 8)).save(photos / "sub" / name, "JPEG")
    caplog.clear()
    expected = [*PHOTOS, "sub/e.jfif", "sub/f.JPE"]
    assert sorted(ids(photos)) == sorted(Path(path).relative_to(photos).as_posix() for path in find_photos([photos]))
    assert sorted(ids(photos)) == sorted(expected) and ids(photos / "sub/f.JPE") == ["f.JPE"]
    for message in [record.getMessage() for record in caplog.records]:
        assert str(photos) in message and "4 of 9" in message and ".txt 1" in message
    assert len(caplog.records) == 3


def test_each_photo_has_one_record(photos: Path) -> None:
    assert ids(photos, *(photos / again for again in (".", "b.jpg", "*", "**/*.jpeg"))) == PHOTOS


def test_ids_of_photos_with_equal_names_start_with_their_folders(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "c/a/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3)).save(tmp_path / name)
    assert ids(tmp_path / "a", tmp_path / "b") == ["a/1.jpg", "2.jpg", "b/1.jpg"]
    assert ids(tmp_path / "b", tmp_path / "a" / "2.jpg") == ["1.jpg", "2.jpg"]
    with pytest.raises(InputError, match=r"1\.jpg and .*1\.jpg"):
        ids(tmp_path / "a", tmp_path / "b", tmp_path / "c/a")


def test_unreadable_photos_are_left_out_unless_all_are(photos: Path) -> None:
    (photos / "phone.heic").touch()
    Image.effect_noise((80, 80), 50).save(photos / "cut.jpg")
    (photos / "cut.jpg").write_bytes((photos / "cut.jpg").read_bytes()[:-200])
    failures: list[str] = []
    assert ids(photos / "phone.heic", photos, photos / "*.*", failures=failures) == PHOTOS
    assert len(failures) == 2 and "phone.heic" in failures[0] and "cut.jpg" in failures[1]
    with pytest.raises(InputError, match="phone.heic"):
        ids(photos / "cut.jpg", photos / "*.he*")


def test_a_path_without_photos_is_named(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", photos / "none.jpg", photos / "notes.txt"):
        with pytest.raises(InputError, match=path.name):
            ids(path)
