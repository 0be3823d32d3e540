from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from mlickd.data.manifest import first_difference, labels_digest, manifest_lines, read_manifest, write_manifest
from mlickd.errors import InputError

RECORDS = [
    {"file_name": "/here/b.jpg", "image_id": 'b "\u732b" \udce9\n.jpg', "labels": [1, 0], "ignored_labels": [2, 1]},
    {"file_name": "/here/a.jpg", "image_id": 7, "labels": [], "height": 5, "width": 5, "annotations": []},
]
CLASSES = ["cat", "dog", "cow"]


def test_the_digest_covers_ids_and_label_names_only():
    lines = [CLASSES, ["7", [], []], ['b "\u732b" \udce9\n.jpg', ["cat", "dog"], ["cow"]]]
    assert manifest_lines(RECORDS, CLASSES) == [json.dumps(line) for line in lines]
    digest = labels_digest(RECORDS, CLASSES)
    moved = [{**record, "file_name": "/there/x.jpg", "labels": record["labels"][::-1]} for record in RECORDS[::-1]]
    assert labels_digest(moved, CLASSES) == digest
    first, second = RECORDS
    for changed in ([first], [first, second | {"labels": [2]}], [first, second | {"image_id": 8}]):
        assert labels_digest(changed, CLASSES) != digest
    assert labels_digest(RECORDS, ["dog", "cat", "cow"]) != digest


def test_a_file_is_read_as_it_was_written(tmp_path):
    lines, path = manifest_lines(RECORDS, CLASSES), tmp_path / "m"
    digest = write_manifest(lines, "pets_test", path)
    assert first_difference(lines, lines) is None and "line 4 " in first_difference(lines, lines[:2])
    assert read_manifest(path) == lines and digest == labels_digest(RECORDS, CLASSES)
    header, rest = path.read_bytes().split(b"\n", 1)
    assert json.loads(header)["sha256"] == hashlib.sha256(rest).hexdigest() == digest
    assert json.loads(header)["num_images"] == 2
    path.write_bytes(b"\xef\xbb\xbf" + (header + b"\n" + rest).replace(b"\n", b"\r\n"))
    assert read_manifest(path) == lines
    with pytest.raises(InputError, match=str(tmp_path / "no" / "m")):
        write_manifest(lines, "pets_test", tmp_path / "no" / "m")


@pytest.mark.parametrize("content", [b"", b"[]\n", b'{"manifest": 1}\n', b'{"manifest": 1, "sha256": "0"}\n["cat"]\n'])
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, content: bytes):
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(InputError, match=f"^{tmp_path / 'm'}: [^\n]*$"):
        read_manifest(tmp_path / "m")
