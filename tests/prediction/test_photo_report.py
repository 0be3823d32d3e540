"""Photos that the arguments of a command name."""

from pathlib import Path

import pytest

from mlickd.errors import InputError
from mlickd.prediction.photo_report import find_photos


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["b.png", "a.jpg", "trip/../b.png", "./a.jpg"], ["b.png", "a.jpg"]),
        (["trip"], ["trip/c.JPG", "trip/day/d.jpg", "trip/phone.HEIC"]),
        (["trip/*", "b*"], ["trip/c.JPG", "trip/phone.HEIC", "b.png"]),
        (["[x].jpg"], ["[x].jpg"]),
        (["gone.jpg"], ["gone.jpg"]),
        (["-", "b.png", "-"], ["trip/c.JPG", "a.jpg", "b.png"]),
        (["*.gif"], None),
        (["empty"], None),
    ],
)
def test_photos_are_files_folders_patterns_or_a_list(tmp_path: Path, monkeypatch, names: list, found: list | None):
    files = "a.jpg", "b.png", "notes.txt", "trip/c.JPG", "trip/.hidden.jpg", "trip/day/d.jpg", "trip/phone.HEIC"
    for name in (*files, "[x].jpg", "empty/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    if found is not None:
        assert find_photos(names, ["trip/c.JPG\n", "\n", "a.jpg\r\n"]) == found
        assert find_photos(["-"], [" with space.jpg\0two\n", "lines.jpg \0"]) == [" with space.jpg", "two\nlines.jpg "]
    else:
        with pytest.raises(InputError, match=f"{names[0].replace('*', '.')}: no image"):
            find_photos(names)
