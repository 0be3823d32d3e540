from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mlickd.data.user_photos import photo_records
from mlickd.errors import InputError

NAMES = ["a ü'.PNG", "b.jpg", "sub/c.jpeg"]


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


def ids(*paths: object, **options: object) -> list[str]:
    return [record["image_id"] for record in photo_records(paths, **options)]


def test_photos_of_a_folder_and_a_single_photo_are_found(photos: Path, tmp_path: Path) -> None:
    assert ids(photos) == NAMES and ids(photos / "sub" / "c.jpeg") == ["c.jpeg"]
    record = {"file_name": str(photos / "b.jpg"), "image_id": "b.jpg", "height": 10, "width": 20}
    assert photo_records([photos])[1] == record
    (tmp_path / "disk").mkdir()
    Image.new("RGB", (3, 4)).save(tmp_path / "disk" / "e.jpg")
    (photos / "linked").symlink_to(tmp_path / "disk")
    (photos / "sub" / "circle").symlink_to(photos)
    assert ids(photos) == [*NAMES[:2], "linked/e.jpg", NAMES[2]]


def test_photos_of_a_list_are_found(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"sub/../b.jpg\r\n\r\n  sub/c.jpeg\n{photos / NAMES[0]}"
    (photos / "list.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert photo_records([photos / "list.txt"]) == photo_records([photos])
    (tmp_path / "elsewhere.txt").write_text("b.jpg\n")
    assert ids(tmp_path / "elsewhere.txt", root=photos) == ["b.jpg"]
    monkeypatch.chdir(photos)
    assert ids("list.txt") == NAMES


def test_each_photo_has_one_record(photos: Path) -> None:
    assert ids(photos, *(photos / again for again in (".", "b.jpg", "*", "**/*.jpeg"))) == NAMES


def test_ids_of_photos_with_equal_names_start_with_their_folders(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "c/a/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3)).save(tmp_path / name)
    assert ids(tmp_path / "a", tmp_path / "b") == ["a/1.jpg", "2.jpg", "b/1.jpg"]
    assert ids(tmp_path / "b", tmp_path / "a" / "2.jpg") == ["1.jpg", "2.jpg"]
    with pytest.raises(InputError, match=r"1\.jpg and .*1\.jpg"):
        photo_records([tmp_path / "a", tmp_path / "b", tmp_path / "c/a"])


def test_a_path_without_photos_is_named(photos: Path, tmp_path: Path) -> None:
    for line in ("none.jpg", "../photos.jpg"):
        (photos / "list.txt").write_text(line)
        with pytest.raises(InputError, match=line):
            photo_records([photos / "list.txt"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        photo_records([tmp_path / "empty"])
