from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlickd.data.sources.image_folder import ImageFolder, relative_name, unlisted_images
from mlickd.errors import InputError

NAMES = ["a b.jpg", 'it\'s "one".jpg', "K\u00f6nig/\u732b.png", "deep/er/x.jpg", "a..jpg"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"")
    return tmp_path / "images"


@pytest.mark.parametrize("name", NAMES)
def test_unusual_names_are_found(root, name):
    folder = ImageFolder(root, "list.txt")
    assert relative_name(name, "list.txt") == name
    assert name in folder and folder.require(name) == str(root / name)


@pytest.mark.parametrize("name", ["b.jpg", "deep", "none/x.jpg", "deep/er", "nul\0.jpg", "", "a b.jpg/x"])
def test_what_is_not_a_file_is_not_found(root, name):
    folder = ImageFolder(root, "list.txt")
    assert name not in folder
    with pytest.raises(InputError, match=r"(image file not found|a folder), but list\.txt lists it in line 3"):
        folder.require(name, " in line 3")


def test_a_name_that_is_spelt_otherwise_is_told(root):
    for name, there in (("A.JPEG", "a.jpg"), ("b.JPG", "")):
        shown = "write 'a.jpg' there" if there else "put the photo there"
        (root / "a.jpg").write_bytes(b"")
        with pytest.raises(InputError, match=shown):
            ImageFolder(root, "list.txt").require(name)


def test_links_are_followed_and_broken_ones_are_not_there(root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "y.jpg").write_bytes(b"")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "y.jpg").symlink_to(tmp_path / "elsewhere" / "y.jpg")
    (root / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    folder = ImageFolder(root, "list.txt")
    assert "linked/y.jpg" in folder and "y.jpg" in folder and "broken.jpg" not in folder


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=r"photos: image folder of list\.txt not found"):
        ImageFolder(tmp_path / "photos", "list.txt")


@pytest.mark.parametrize(
    ("name", "short"), [("./a.jpg", "a.jpg"), ("b//a.jpg", "b/a.jpg"), ("b/./a.jpg", "b/a.jpg"), ("b/a/", "b/a")]
)
def test_names_are_shortened(name, short):
    assert relative_name(name, "") == short


@pytest.mark.parametrize(
    "name",
    [*("", ".", "/", "..", "../a.jpg", "b/../../a.jpg", "b/..", "/etc/passwd", "C:\\a.jpg", "C:a.jpg"), "b\\..\\..\\a"],
)
def test_names_that_leave_the_folder_are_refused(name):
    with pytest.raises(InputError, match=r"list\.txt: line 7: file name .* is not inside JPEGImages/"):
        relative_name(name, "list.txt: line 7", "JPEGImages/")


def test_unlisted_images_are_named(root):
    (root / "notes.txt").write_text("no image")
    (root / "deep" / "circle").symlink_to(root)
    (root / "linked").symlink_to(root.parent / "elsewhere")
    (root.parent / "elsewhere").mkdir()
    (root.parent / "elsewhere" / "z.PNG").write_bytes(b"")
    records = [{"file_name": os.path.join(root, name)} for name in NAMES[:3]]
    assert unlisted_images(root, records) == ["a..jpg", "deep/er/x.jpg", "linked/z.PNG"]
    assert unlisted_images(f"{root}/", [{"file_name": f"{root}/{name}"} for name in [*NAMES, "linked/z.PNG"]]) == []
