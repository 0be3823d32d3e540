from __future__ import annotations

from pathlib import Path

import pytest

from mlickd.errors import InputError
from mlickd.prediction.photos import find_photos


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a.jpg", "b.png", "notes.txt", "trip/c.JPG", "trip/.hidden.jpg", "trip/day/d.jpg", "[x].jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["b.png", "a.jpg", "b.png"], ["b.png", "a.jpg"]),
        (["trip"], ["trip/c.JPG", "trip/day/d.jpg"]),
        (["*.png", "trip/**/*.jpg"], ["b.png", "trip/day/d.jpg"]),
        (["[x].jpg"], ["[x].jpg"]),
        (["gone.jpg"], ["gone.jpg"]),
        (["-", "a.jpg"], ["trip/c.JPG", "a.jpg"]),
    ],
)
def test_photos_folders_patterns_and_a_list(folder: Path, names: list[str], found: list[str]) -> None:
    assert find_photos(names, ["trip/c.JPG\n", "\n", "a.jpg\r\n"]) == found


def test_a_list_may_have_nul_between_its_paths(folder: Path) -> None:
    assert find_photos(["-"], ["a.jpg\0trip/with space.jpg\0"]) == ["a.jpg", "trip/with space.jpg"]


def test_photos_of_a_folder_that_may_be_unreadable_are_not_passed_over(folder: Path) -> None:
    (folder / "trip" / "phone.HEIC").touch()
    assert find_photos(["trip"]) == ["trip/c.JPG", "trip/day/d.jpg", "trip/phone.HEIC"]


@pytest.mark.parametrize(("name", "message"), [("*.gif", r"\*.gif: no image there"), ("-", "standard input: no path")])
def test_nothing_is_an_error(folder: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_photos(["a.jpg", name], ["\n"])
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no image there; name photos"):
        find_photos(["empty"])
