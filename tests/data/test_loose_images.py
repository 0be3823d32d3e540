from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mlickd.data.loose_images import loose_image_records
from mlickd.errors import InputError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for name, size in (("b.jpg", (20, 10)), ("a ü'.PNG", (5, 7)), ("sub/c.jpeg", (8, 8)), (".hidden/d.jpg", (1, 1))):
        Image.new("RGB", size).save(folder / name)
    (folder / "notes.txt").write_text("b.jpg")
    return folder


def test_folder(photos: Path) -> None:
    records = loose_image_records(photos)
    assert [record["image_id"] for record in records] == ["a ü'.PNG", "b.jpg", "sub/c.jpeg"]
    assert records[1] == {"file_name": str(photos / "b.jpg"), "image_id": "b.jpg", "height": 10, "width": 20}


def test_what_else_lies_in_a_folder_does_no_harm(photos: Path) -> None:
    before = loose_image_records(photos)
    for name in ("manual.pdf", "film.mpg", "logo.eps", "table.h5", ".b.jpg"):
        (photos / name).write_bytes(b"no image")
    assert loose_image_records(photos) == before


def test_links_to_folders_are_followed_but_not_in_circles(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    Image.new("RGB", (3, 4)).save(tmp_path / "disk" / "e.jpg")
    (photos / "linked").symlink_to(tmp_path / "disk")
    (photos / "sub" / "circle").symlink_to(photos)
    names = ["a ü'.PNG", "b.jpg", "linked/e.jpg", "sub/c.jpeg"]
    assert [record["image_id"] for record in loose_image_records(photos)] == names


def test_one_image(photos: Path) -> None:
    assert [record["image_id"] for record in loose_image_records(photos / "sub" / "c.jpeg")] == ["c.jpeg"]


def test_list(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = f"sub/../b.jpg\r\n\r\n  sub/c.jpeg\n{photos / chr(97)} ü'.PNG"
    (photos / "list.txt").write_bytes(b"\xef\xbb\xbf" + names.encode())
    assert loose_image_records(photos / "list.txt") == loose_image_records(photos)
    (tmp_path / "elsewhere.txt").write_text("b.jpg\n")
    assert loose_image_records(tmp_path / "elsewhere.txt", photos) == loose_image_records(photos)[1:2]
    monkeypatch.chdir(photos)
    assert [record["image_id"] for record in loose_image_records("list.txt")] == ["a ü'.PNG", "b.jpg", "sub/c.jpeg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"b.jpg\nb.jpg\n", "line 2: b.jpg is also in line 1"),
        (b"\nnone.jpg\n", "line 2: .*none.jpg: image file not found"),
        (b"../photos.jpg\n", r"line 1: '../photos.jpg' is not inside"),
        (b"/etc/hostname\n", "line 1: '/etc/hostname' is not inside"),
        (b"\n  \n", "the list is empty"),
        (b"\xff\xfe", "neither an image nor a list in UTF-8"),
        (b"notes.txt\n", "notes.txt: not a readable image"),
    ],
)
def test_bad_list(photos: Path, content: bytes, message: str) -> None:
    (photos / "list.txt").write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        loose_image_records(photos / "list.txt")
    assert "\n" not in str(error.value)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no image in this folder"):
        loose_image_records(tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        loose_image_records(tmp_path / "none")
