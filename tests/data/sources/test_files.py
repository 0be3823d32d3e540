from __future__ import annotations

from pathlib import Path

import pytest

from mlickd.data.sources.files import ImageFolder, relative_name
from mlickd.errors import InputError

NAMES = ["a b.jpg", 'it\'s "one".jpg', "K\u00f6nig/\u732b.png", "deep/er/x.jpg", "a..jpg"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"")
    return tmp_path / "images"


def test_files_are_found_and_links_are_followed(root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "y.jpg").write_bytes(b"")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    folder = ImageFolder(root, "list.txt")
    for name in (*NAMES, "linked/y.jpg"):
        assert relative_name(name, "list.txt") == name
        assert name in folder and folder.require(name) == str(root / name)
    for name in ("b.jpg", "deep", "none/x.jpg", "nul\0.jpg", "", "a b.jpg/x", "broken.jpg"):
        assert name not in folder
        with pytest.raises(InputError, match=r"list\.txt"):
            folder.require(name)
    with pytest.raises(InputError, match=r"photos: .*list\.txt"):
        ImageFolder(tmp_path / "photos", "list.txt")


def test_names_are_shortened_and_stay_in_the_folder():
    for name, short in (("./a.jpg", "a.jpg"), ("b//a.jpg", "b/a.jpg"), ("b/../c/a.jpg", "c/a.jpg"), ("b/a/", "b/a")):
        assert relative_name(name, "") == short
    for name in ("", ".", "/", "..", "../a.jpg", "b/../../a.jpg", "b/..", "/etc/passwd", "//a"):
        with pytest.raises(InputError, match=r"list\.txt: line 7: .*JPEGImages/"):
            relative_name(name, "list.txt: line 7", "JPEGImages/")
