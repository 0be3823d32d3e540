from __future__ import annotations

import logging

import numpy as np
import pytest
from detectron2.data.detection_utils import read_image
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from mlickd.data.records import check_records, image_size, label_targets
from mlickd.errors import InputError

NUM_CLASSES = 5
LABELS = st.lists(st.integers(0, NUM_CLASSES - 1), max_size=4)


def _record(image_id: int | str, labels: list[int], **more: object) -> dict:
    return {"file_name": f"photos/{image_id}.jpg", "image_id": image_id, "labels": labels, **more}


@given(st.lists(st.tuples(LABELS, LABELS), max_size=6))
def test_targets_say_positive_negative_or_ignored(rows):
    records = [_record(i, labels, ignored_labels=ignored) for i, (labels, ignored) in enumerate(rows)]
    targets = label_targets(records, NUM_CLASSES)
    assert targets.shape == (len(rows), NUM_CLASSES) and targets.dtype == np.int8
    for row, (labels, ignored) in zip(targets, rows, strict=True):
        expected = [1 if c in labels else -1 if c in ignored else 0 for c in range(NUM_CLASSES)]
        assert row.tolist() == expected


@pytest.mark.parametrize("field", ["labels", "ignored_labels"])
@pytest.mark.parametrize("label", [-1, NUM_CLASSES])
def test_targets_refuse_a_label_out_of_range(field, label):
    record = {**_record("a", []), field: [label]}
    with pytest.raises(InputError, match=r"image a.*NUM_CLASSES"):
        label_targets([record], NUM_CLASSES)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_image_size_is_that_of_detectron2(tmp_path, suffix, orientation):
    path = tmp_path / f"photo.{suffix}"
    exif = Image.Exif()
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    Image.new("RGB", (40, 30)).save(path, exif=exif)
    assert image_size(path) == read_image(str(path), "RGB").shape[:2]


def test_image_size_names_the_bad_file(tmp_path):
    with pytest.raises(InputError, match=r"absent\.jpg: image file not found"):
        image_size(tmp_path / "absent.jpg")
    (tmp_path / "text.jpg").write_text("not an image")
    with pytest.raises(InputError, match=r"text\.jpg: not a readable image"):
        image_size(tmp_path / "text.jpg")


def test_check_refuses_an_empty_split_and_a_repeated_id():
    with pytest.raises(InputError, match=r"labels\.csv: the split is empty"):
        check_records([], ["a"], "labels.csv")
    with pytest.raises(InputError, match=r"labels\.csv: image id '7' occurs twice"):
        check_records([_record(7, [0]), _record("7", [0])], ["a"], "labels.csv")


def test_check_warns_of_classes_without_a_positive(caplog):
    with caplog.at_level(logging.WARNING):
        check_records([_record(1, [1], ignored_labels=[2])], ["cat", "dog", "cow"], "labels.csv")
    assert "no image is labeled with cat, cow" in caplog.text and "dog" not in caplog.text


def test_check_is_silent_when_all_is_well(caplog):
    check_records([_record(1, [0]), _record(2, [1])], ["cat", "dog"], "labels.csv")
    assert not caplog.records
