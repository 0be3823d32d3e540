from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlickd.data.manifest import Manifest, first_difference, make_manifest, read_manifest, write_manifest
from mlickd.errors import InputError

RECORDS = [
    {"file_name": "/here/b.jpg", "image_id": 'b "\u732b" \udce9\n.jpg', "labels": [1, 0], "ignored_labels": [2, 1]},
    {"file_name": "/here/a.jpg", "image_id": 7, "labels": [], "height": 5, "width": 5, "annotations": []},
]
CLASSES = ["cat", "dog", "cow"]


def make(records: list[dict] = RECORDS, classes: list[str] = CLASSES) -> Manifest:
    return make_manifest("pets_test", records, classes)


def test_the_digest_covers_ids_and_label_names_only():
    lines = [CLASSES, ["7", [], []], ['b "\u732b" \udce9\n.jpg', ["cat", "dog"], ["cow"]]]
    assert make().body() == "".join(f"{json.dumps(line)}\n" for line in lines)
    moved = [{**record, "file_name": "/there/x.jpg", "labels": record["labels"][::-1]} for record in RECORDS[::-1]]
    assert make_manifest("copy_test", moved, CLASSES).digest() == make().digest()
    first, second = RECORDS
    for changed in ([first], [first, second | {"labels": [2]}], [first, second | {"image_id": 8}]):
        assert make(changed).digest() != make().digest()
    assert make(classes=["dog", "cat", "cow"]).digest() != make().digest()


def test_a_file_is_read_as_it_was_written(tmp_path):
    write_manifest(make(), tmp_path / "m")
    assert read_manifest(tmp_path / "m") == make()
    header, rest = (tmp_path / "m").read_bytes().split(b"\n", 1)
    assert json.loads(header)["sha256"] == hashlib.sha256(rest).hexdigest() == make().digest()
    assert json.loads(header)["num_images"] == 2
    (tmp_path / "m").write_bytes(b"\xef\xbb\xbf" + (header + b"\n" + rest).replace(b"\n", b"\r\n"))
    assert read_manifest(tmp_path / "m") == make()
    with pytest.raises(InputError, match=str(tmp_path / "no" / "m")):
        write_manifest(make(), tmp_path / "no" / "m")


@pytest.mark.parametrize(
    ("change", "classes", "named"),
    [
        (lambda r: r[1].update(labels=[0]), CLASSES, ["'1.jpg'", "cat"]),
        (lambda r: r[0].pop("ignored_labels"), CLASSES, ["'0.jpg'", "cow"]),
        (lambda r: r.pop(0), CLASSES, ["'0.jpg'", "2 images here, 1 there"]),
        (lambda r: r[1].update(image_id="00"), CLASSES, ["'00'"]),
        (lambda r: None, ["cat", "dog", "hen"], ["cow", "hen"]),
        (lambda r: None, [*CLASSES, "hen"], ["None", "hen"]),
        (lambda r: r.clear(), CLASSES[:1], ["dog", "None"]),
    ],
)
def test_the_first_difference_is_named(change, classes, named):
    records, changed = ([{**r, "image_id": f"{i}.jpg"} for i, r in enumerate(RECORDS)] for _ in range(2))
    change(changed)
    assert first_difference(make(records), replace(make(records), dataset="copy_test")) is None
    found = first_difference(make(records), make(changed, classes))
    assert all(text in found for text in named), found


def lines(change: Callable[[list[str]], object]) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        content = path.read_text().splitlines()
        change(content)
        path.write_text("\n".join(content))

    return write


@pytest.mark.parametrize(
    "spoil",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff\xfe"),
        lambda path: path.write_bytes(path.read_bytes()[:-5]),
        lines(lambda lines: lines.pop()),
        lines(lambda lines: lines.pop(0)),
        lines(lambda lines: lines.__setitem__(slice(1, 4), [])),
        lines(lambda lines: lines.__setitem__(2, "[7]")),
        lines(lambda lines: lines.__setitem__(2, '["7", ["cat"], []]')),
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path, spoil):
    write_manifest(make(), tmp_path / "m")
    spoil(tmp_path / "m")
    with pytest.raises(InputError, match=f"^{tmp_path / 'm'}: [^\n]*$"):
        read_manifest(tmp_path / "m")
