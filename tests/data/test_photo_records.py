from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mlickd.data.loose_images import photo_records
from mlickd.errors import InputError


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("a/IMG_0001.jpg", "a/only.jpg", "b/IMG_0001.jpg", "c/a/IMG_0001.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3)).save(tmp_path / name)
    return tmp_path


def test_two_folders_with_a_photo_of_one_name(folders: Path) -> None:
    records = photo_records([folders / "a", folders / "b"])
    assert {record["image_id"]: record["file_name"] for record in records} == {
        "a/IMG_0001.jpg": str(folders / "a" / "IMG_0001.jpg"),
        "only.jpg": str(folders / "a" / "only.jpg"),
        "b/IMG_0001.jpg": str(folders / "b" / "IMG_0001.jpg"),
    }
    names = [record["image_id"] for record in photo_records([folders / "b", folders / "a" / "only.jpg"])]
    assert names == ["IMG_0001.jpg", "only.jpg"]


@pytest.mark.parametrize("again", ["a", "a/IMG_0001.jpg", "a/*"])
def test_a_photo_comes_once(folders: Path, again: str) -> None:
    (folders / "a" / "notes.txt").write_text("a text beside the photos is no list of others")
    assert photo_records([folders / "a", folders / again]) == photo_records([folders / "a"])


@pytest.mark.parametrize("other", ["c/a", "c"])
def test_what_is_still_ambiguous_is_refused(folders: Path, other: str) -> None:
    with pytest.raises(InputError, match="have one name; rename one of them"):
        photo_records([folders / "a", folders / "b", folders / other])
