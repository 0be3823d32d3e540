from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlickd.data.manifest import first_difference, make_manifest, read_manifest, write_manifest
from mlickd.errors import InputError

RECORDS = [
    {"file_name": "/here/b.jpg", "image_id": 'b "\u732b" \udce9\n.jpg', "labels": [1, 0], "ignored_labels": [2, 1]},
    {"file_name": "/here/a.jpg", "image_id": 7, "labels": [], "height": 5, "width": 5, "annotations": []},
]
CLASSES = ["cat", "dog", "cow"]


def test_lines_are_of_ids_and_label_names():
    manifest = make_manifest("pets_test", RECORDS, CLASSES)
    assert [json.loads(line) for line in manifest.lines()] == [
        CLASSES,
        ["7", [], []],
        ['b "\u732b" \udce9\n.jpg', ["cat", "dog"], ["cow"]],
    ]


def test_the_digest_depends_on_nothing_else():
    manifest = make_manifest("pets_test", RECORDS, CLASSES)
    moved = [{**record, "file_name": "/there/x.jpg", "labels": record["labels"][::-1]} for record in RECORDS[::-1]]
    assert make_manifest("copy_test", moved, CLASSES).digest() == manifest.digest()
    for changed in (
        [RECORDS[0]],
        [RECORDS[0], {**RECORDS[1], "labels": [2]}],
        [RECORDS[0], {**RECORDS[1], "image_id": 8}],
    ):
        assert make_manifest("pets_test", changed, CLASSES).digest() != manifest.digest()
    assert make_manifest("pets_test", RECORDS, ["dog", "cat", "cow"]).digest() != manifest.digest()


def test_a_file_is_read_as_it_was_written_and_the_digest_is_that_of_its_lines(tmp_path):
    manifest = make_manifest("pets_test", RECORDS, CLASSES)
    write_manifest(manifest, tmp_path / "m")
    assert read_manifest(tmp_path / "m") == manifest
    header, rest = (tmp_path / "m").read_bytes().split(b"\n", 1)
    assert json.loads(header)["sha256"] == hashlib.sha256(rest).hexdigest() == manifest.digest()
    assert json.loads(header)["num_images"] == 2
    (tmp_path / "m").write_bytes(b"\xef\xbb\xbf" + (header + b"\n" + rest).replace(b"\n", b"\r\n"))
    assert read_manifest(tmp_path / "m") == manifest


def _change(change: Callable[[dict], object], classes: list[str] = CLASSES) -> tuple[list[dict], list[str]]:
    records = [dict(record, image_id=f"{index}.jpg") for index, record in enumerate(RECORDS)]
    change(records)
    return records, classes


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (_change(lambda r: r[1].update(labels=[0])), "image '1.jpg' has the labels [] here and ['cat'] there"),
        (
            _change(lambda r: r[0].pop("ignored_labels")),
            "image '0.jpg' has the ignored labels ['cow'] here and [] there",
        ),
        (
            _change(lambda r: r.pop(0)),
            "image '0.jpg' is here and not there; 2 images here, 1 there: 1 are here alone and 0",
        ),
        (
            _change(lambda r: r[1].update(image_id="00")),
            "image '00' is there and not here; 2 images here, 2 there: 1 are",
        ),
        (_change(lambda r: None, ["cat", "dog", "hen"]), "class 2 is 'cow' here and 'hen' there"),
        (_change(lambda r: None, [*CLASSES, "hen"]), "class 3 is 'none' here and 'hen' there"),
    ],
)
def test_the_first_difference_is_named(changed, message):
    ours = make_manifest("pets_test", *_change(lambda r: None))
    assert first_difference(ours, replace(ours, dataset="copy_test")) is None
    assert message in first_difference(ours, make_manifest("pets_test", *changed))


def _lines(change: Callable[[list[str]], object]) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        lines = path.read_text().splitlines()
        change(lines)
        path.write_text("\n".join(lines))

    return write


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (Path.unlink, "file not found; write one with `python tools/dataset_manifest.py NAME`"),
        (lambda path: path.write_bytes(b""), "line 1: not a line of a manifest"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "not UTF-8"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), "line 4: not a line of a manifest"),
        (_lines(lambda lines: lines.pop()), "its lines do not have the digest"),
        (_lines(lambda lines: lines.pop(0)), "line 1: not the first line of a manifest of version 1"),
        (_lines(lambda lines: lines.__setitem__(slice(1, 4), [])), "is not a manifest, or was cut short"),
        (_lines(lambda lines: lines.__setitem__(2, "[7]")), "is not a manifest, or was cut short"),
        (_lines(lambda lines: lines.__setitem__(2, '["7", ["cat"], []]')), "its lines do not have the digest"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path, spoil, message):
    path = tmp_path / "m"
    write_manifest(make_manifest("pets_test", RECORDS, CLASSES), path)
    spoil(path)
    with pytest.raises(InputError) as caught:
        read_manifest(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and message in text and "\n" not in text


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        write_manifest(make_manifest("pets_test", RECORDS, CLASSES), tmp_path / "no" / "m")
